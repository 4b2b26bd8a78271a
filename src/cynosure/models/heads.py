"""Read answers off an encoder's hidden states. Knows nothing of attention, files or brands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.models.batch import Batch
from cynosure.models.encoder_spec import HeadSpec, TransformSpec
from cynosure.models.mlp import ACTIVATIONS
from cynosure.models.norm import Norm
from cynosure.models.pooling import pool

HEAD_ACTIVATIONS = {**ACTIVATIONS, "tanh": torch.tanh}


class Transform(nn.Module):
    """A dense layer, an activation and, where the spec has one, a norm."""

    def __init__(self, spec: TransformSpec, hidden_size: int) -> None:
        """Hold the parameters that the spec asks for."""
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size, spec.has_bias)
        self.act = HEAD_ACTIVATIONS[spec.activation]
        self.norm = None if spec.norm is None else Norm(spec.norm, hidden_size)

    def forward(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """Return the transformed rows."""
        x = self.act(self.dense(x))
        return x if self.norm is None else self.norm(x)


class Head(nn.Module):
    """Pool where the spec says so, transform, project."""

    def __init__(self, spec: HeadSpec, hidden_size: int) -> None:
        """Hold the parameters that the spec asks for."""
        super().__init__()
        self.spec = spec
        self.transform = None if spec.transform is None else Transform(spec.transform, hidden_size)
        self.output = nn.Linear(hidden_size, spec.num_outputs, spec.has_bias)

    def forward(self, hidden: Float[Tensor, "n hidden"], batch: Batch) -> Float[Tensor, "rows outputs"]:
        """Return logits: a row a sequence where the head pools, a row a token elsewhere."""
        return self.answers(hidden if self.spec.pooling is None else pool(self.spec.pooling, hidden, batch))

    def answers(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows outputs"]:
        """Return the logits of rows that are pooled where the spec asks for it."""
        return self.output(x if self.transform is None else self.transform(x))


def scores(spec: HeadSpec, logits: Float[Tensor, "rows outputs"]) -> Float[Tensor, "rows outputs"]:
    """Turn a classifier's logits into what its config says that they mean, in float32.

    A declared activation goes first. Then the problem type: `regression` gives the numbers as they are,
    `multi_label_classification` a sigmoid each, `single_label_classification` a softmax. Without either, a
    single output gets a sigmoid, as in sentence-transformers' CrossEncoder, and several a softmax.
    """
    return _SCORES[score_activation(spec)](logits.float())


def score_activation(spec: HeadSpec) -> str:
    """By what a classifier's logits become scores: `identity`, `sigmoid` or `softmax`; see `scores`."""
    kind = spec.activation or _ACTIVATION_OF.get(spec.problem_type or "")
    if kind is None:
        kind = "sigmoid" if spec.num_outputs == 1 else "softmax"
    return kind


_ACTIVATION_OF = {
    "regression": "identity",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}
_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda logits: logits,
    "sigmoid": torch.sigmoid,
    "softmax": partial(torch.softmax, dim=-1),
}
