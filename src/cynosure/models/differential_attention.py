"""Attend twice and subtract, head by head. Knows nothing of layers around it.

Differential attention (arXiv 2410.05258) over grouped heads: query heads `i` and `i + num_heads / 2` are a
pair, whose keys are different ones and whose values are the same two heads' side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec
from cynosure.attention.combine import coefficient_at_first, difference, differential_coefficient
from cynosure.attention.paired import PairedValues
from cynosure.attention.positions import Rotary
from cynosure.cache import LayerShape
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm, NormSpec


@dataclass(frozen=True)
class DifferentialSpec:
    """Differential attention with a projection each for q, k, v and the output.

    In `attention` a head's value is as wide as two; `norm` normalises each pair's difference.
    """

    attention: AttentionSpec
    norm: NormSpec
    has_bias: bool = False


@final
class DifferentialAttention(AttentionBlock):
    """Attention whose heads are differences of pairs."""

    def __init__(self, spec: DifferentialSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections, and the four vectors that the coefficient is computed from."""
        super().__init__()
        heads = spec.attention.heads
        self.spec = spec
        self.layer = layer
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, spec.has_bias)
        self.k = nn.Linear(hidden_size, heads.num_kv_heads * heads.head_dim, spec.has_bias)
        self.v = nn.Linear(hidden_size, heads.num_kv_heads * heads.v_head_dim // 2, spec.has_bias)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim // 2, hidden_size, spec.has_bias)
        self.norm = Norm(spec.norm, heads.v_head_dim)
        self.first_q, self.first_k, self.second_q, self.second_k = (
            nn.Parameter(torch.empty(heads.head_dim), requires_grad=False) for _ in range(4)
        )

    @property
    def cache_shape(self) -> LayerShape:
        """Rotated keys, and the values of single heads."""
        heads = self.spec.attention.heads
        return LayerShape(heads.num_kv_heads, heads.head_dim, heads.v_head_dim // 2)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""
        spec = self.spec.attention
        heads, position = spec.heads, spec.position
        q = self.q(x).unflatten(-1, (heads.num_heads, -1))
        k, v = (part(x).unflatten(-1, (heads.num_kv_heads, -1)) for part in (self.k, self.v))
        if isinstance(position, Rotary):
            q, k = forward_pass.rotate(position, q), forward_pass.rotate(position, k)
        source = PairedValues(forward_pass.extend(self.layer, k, v))
        out = difference(forward_pass.attend(self.layer, spec, q, source), self._coefficient())
        return self.o(self.norm(out).flatten(1) * (1 - coefficient_at_first(self.layer)))

    def _coefficient(self) -> Float[Tensor, ""]:
        queries, keys = (self.first_q, self.second_q), (self.first_k, self.second_k)
        return differential_coefficient(queries, keys, self.layer)
