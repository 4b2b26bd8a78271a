"""Carry several vectors a token, of which layers transform one. Knows nothing of attention.

Alternating updates (arXiv 2301.13310) as Gemma 3n has them: a layer predicts all vectors from all, transforms
one of them, and corrects the others by how far the prediction of that one was off. Beside them every layer
has an embedding of each token of its own, which is let in by a gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.embedding import embedding
from cynosure.models.mlp import ACTIVATIONS
from cynosure.models.norm import Norm, NormSpec

#: The square of a length is taken to be no less.
_LEAST = 1e-5


@dataclass(frozen=True)
class AltUpSpec:
    """What is around the halves of each layer, and around all layers.

    - `num_streams`: vectors a token; layers transform that of index `active`.
    - `layer_vocab_size`, `layer_width`: of the embeddings that each layer has of its own; a token that is not
      in this vocabulary counts as its first.
    - `laurel_rank`: of a residual branch beside attention (LAuReL, arXiv 2411.07501).
    - `is_scaled`: what was corrected is scaled, channel by channel, before the gate.
    """

    num_streams: int
    active: int
    layer_vocab_size: int
    layer_width: int
    laurel_rank: int
    activation: str
    norm: NormSpec
    is_scaled: bool = True


class Coefficients(nn.Module):
    """A small projection; like a router's, its weight is never kept in codes."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        """Hold the rows."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs), requires_grad=False)

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        """Project."""
        return functional.linear(x, self.weight)


class Laurel(nn.Module):
    """What came in, and beside it a normalised projection of few dimensions."""

    def __init__(self, spec: AltUpSpec, hidden_size: int) -> None:
        """Hold the projection's two halves."""
        super().__init__()
        self.left = nn.Linear(hidden_size, spec.laurel_rank, bias=False)
        self.right = nn.Linear(spec.laurel_rank, hidden_size, bias=False)
        self.norm = Norm(spec.norm, hidden_size)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the sum."""
        return x + self.norm(self.right(self.left(x)))


class AltUp(nn.Module):
    """The vectors around one layer: predicted before it, corrected behind it."""

    def __init__(self, spec: AltUpSpec, hidden_size: int) -> None:
        """Hold what predicts and corrects, and the gate of the layer's own embedding."""
        super().__init__()
        self.spec = spec
        self.router_norm = Norm(spec.norm, hidden_size)
        self.router = Coefficients(hidden_size, spec.num_streams)
        self.prediction = Coefficients(spec.num_streams, spec.num_streams**2)
        self.correction = Coefficients(spec.num_streams, spec.num_streams)
        self.scale = nn.Parameter(torch.empty(hidden_size), requires_grad=False)
        self.act = ACTIVATIONS[spec.activation]
        self.gate = nn.Linear(hidden_size, spec.layer_width, bias=False)
        self.out = nn.Linear(spec.layer_width, hidden_size, bias=False)
        self.out_norm = Norm(spec.norm, hidden_size)

    def predict(self, x: Float[Tensor, "streams n hidden"]) -> Float[Tensor, "streams n hidden"]:
        """Return what each vector is expected to be after the layer."""
        num = self.spec.num_streams
        mixing = self.prediction(self._modes(x[self.spec.active])).unflatten(-1, (num, num))
        return x + torch.einsum("inh,noi->onh", x, mixing)

    def correct(
        self,
        predicted: Float[Tensor, "streams n hidden"],
        transformed: Float[Tensor, "n hidden"],
        embedded: Float[Tensor, "n width"],
    ) -> Float[Tensor, "streams n hidden"]:
        """Return the vectors after a layer that made `transformed` of the active one."""
        surprise = transformed - predicted[self.spec.active]
        shares = self.correction(self._modes(transformed)) + 1.0
        corrected = predicted + surprise * shares.T[..., None]
        active = corrected[self.spec.active]
        active = active * self.scale if self.spec.is_scaled else active
        added = self.out_norm(self.out(self.act(self.gate(active)) * embedded))
        # All but the first, whichever is active.
        return torch.cat([corrected[:1], corrected[1:] + added])

    def _modes(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n streams"]:
        return torch.tanh(self.router(self.router_norm(x) / x.shape[-1]).float()).to(x.dtype)


class AltUpEnds(nn.Module):
    """What makes several vectors of each token before the first layer, and one again behind the last."""

    def __init__(self, spec: AltUpSpec, hidden_size: int, num_layers: int) -> None:
        """Hold the projections, and the embeddings of all layers."""
        super().__init__()
        self.spec = spec
        width = num_layers * spec.layer_width
        self.spread = nn.ModuleList(_square(hidden_size) for _ in range(1, spec.num_streams))
        self.gather = nn.ModuleList(_square(hidden_size) for _ in range(1, spec.num_streams))
        self.embed = embedding(spec.layer_vocab_size, width)
        self.project = nn.Linear(hidden_size, width, bias=False)
        self.norm = Norm(spec.norm, spec.layer_width)

    def enter(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "streams n hidden"]:
        """Return the vectors of each token, all as long as the first."""
        return torch.stack([x, *(_as_long(project(x), x) for project in self.spread)])

    def leave(self, x: Float[Tensor, "streams n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the mean of each token's vectors, made as long as the first."""
        others = (_as_long(project(one), x[0]) for project, one in zip(self.gather, x[1:], strict=True))
        return torch.stack([x[0], *others]).mean(0)

    def embedded(
        self, token_ids: Int[Tensor, " n"], x: Float[Tensor, "n hidden"]
    ) -> Float[Tensor, "n layers width"]:
        """Return what each layer knows of the tokens, whose vectors are `x`."""
        spec = self.spec
        known = token_ids.where(token_ids < spec.layer_vocab_size, torch.zeros_like(token_ids))
        # Rounded to the model's dtype first, as it was trained.
        own = self.embed(known) * torch.tensor(spec.layer_width**0.5, dtype=x.dtype, device=x.device)
        projected = (self.project(x) * x.shape[-1] ** -0.5).unflatten(-1, (-1, spec.layer_width))
        return (self.norm(projected) + own.unflatten(-1, (-1, spec.layer_width))) * 0.5**0.5


def _square(width: int) -> nn.Linear:
    return nn.Linear(width, width, bias=False)


def _as_long(x: Float[Tensor, "n hidden"], like: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
    """Return `x` with the mean square of `like`."""
    wanted = like.square().mean(-1, keepdim=True).sqrt()
    return x * wanted / x.square().mean(-1, keepdim=True).clamp(min=_LEAST).sqrt()
