"""Normalise hidden states. Knows nothing of where in a graph it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NormKind(Enum):
    """`RMS` divides by the root mean square (arXiv 1910.07467); `LAYER` also centres (arXiv 1607.06450).

    `RMS_OFFSET` multiplies by `1 + weight` and rounds last (Gemma); `LAYER_OFFSET` also centres (Nemotron).
    """

    RMS = "rms"
    RMS_OFFSET = "rms_offset"
    LAYER = "layer"
    LAYER_OFFSET = "layer_offset"


@dataclass(frozen=True)
class NormSpec:
    """A normalisation as a value; without a weight of its own it scales nothing afterwards."""

    kind: NormKind
    eps: float
    has_bias: bool = False
    has_weight: bool = True


class Norm(nn.Module):
    """Normalise the last axis in float32, then scale."""

    weight: Tensor

    def __init__(self, spec: NormSpec, width: int) -> None:
        """Hold a weight, of ones where the spec has none, and a bias where the spec has one."""
        super().__init__()
        self.spec = spec
        if spec.has_weight:
            self.weight = nn.Parameter(torch.empty(width), requires_grad=False)
        else:
            # For the kernels, which know no norm without. No file holds it, so it is made where it stays.
            self.register_buffer("weight", torch.ones(width, device="cpu"), persistent=False)
        self.bias = nn.Parameter(torch.empty(width), requires_grad=False) if spec.has_bias else None

    def forward(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Return `x` normalised, in its dtype."""
        if self.spec.kind in (NormKind.LAYER, NormKind.LAYER_OFFSET):
            weight = self.weight if self.spec.kind is NormKind.LAYER else self.weight + 1.0
            own = weight if self.spec.has_weight else None
            return nn.functional.layer_norm(x, weight.shape, own, self.bias, self.spec.eps)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.spec.eps)
        if self.spec.kind is NormKind.RMS_OFFSET:
            return (wide * (1.0 + self.weight.float())).to(x.dtype)
        return self.weight * wide.to(x.dtype) if self.spec.has_weight else wide.to(x.dtype)
