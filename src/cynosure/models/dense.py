"""Hold a projection that has a folder of its own. Knows nothing of the encoder that it stands behind."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.models.checkpoint import fill, open_weights
from cynosure.models.heads import HEAD_ACTIVATIONS
from cynosure.models.sentence_folder import DenseSpec


class Dense(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, spec: DenseSpec) -> None:
        """Hold the parameters that the spec asks for."""
        super().__init__()
        self.linear = nn.Linear(spec.in_features, spec.out_features, spec.has_bias)
        self.act = nn.Identity() if spec.activation == "identity" else HEAD_ACTIVATIONS[spec.activation]

    def forward(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows dim"]:
        """Return the projected rows."""
        return self.act(self.linear(x))


def load_dense(spec: DenseSpec) -> Dense:
    """Read a projection's weights, in float32.

    Raises:
        CheckpointError: A tensor is missing, unexpected or damaged.
    """
    weights = open_weights(spec.folder)
    with torch.device("meta"):
        module = Dense(spec)
    fill(module, {name: weights.later(name) for name in weights.names()}, torch.float32)
    return module
