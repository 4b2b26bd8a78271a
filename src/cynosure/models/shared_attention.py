"""Attend to the keys and values of an earlier layer. Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import reach
from cynosure.attention.positions import Rotary
from cynosure.cache import LayerShape
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm, NormSpec


@dataclass(frozen=True)
class SharedAttentionSpec:
    """Queries of a layer's own over what layer `source` keeps (Gemma 3n).

    `source` has the same K/V heads and the same mask, and says that it `is_read_again`.
    """

    attention: AttentionSpec
    source: int
    has_bias: bool = False
    q_norm: NormSpec | None = None


@final
class SharedAttention(AttentionBlock):
    """Attention whose layer keeps nothing of a token."""

    def __init__(self, spec: SharedAttentionSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections of queries and of the output."""
        super().__init__()
        heads = spec.attention.heads
        self.spec = spec
        self.layer = layer
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, spec.has_bias)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim, hidden_size, spec.has_bias)
        self.q_norm = nn.Identity() if spec.q_norm is None else Norm(spec.q_norm, heads.head_dim)

    @property
    def cache_shape(self) -> LayerShape:
        """No head of keys or values; pages that are found lie where those of the mask's window do."""
        heads = self.spec.attention.heads
        return LayerShape(0, heads.head_dim, heads.v_head_dim, reach(self.spec.attention.mask))

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""
        spec = self.spec.attention
        q = self.q_norm(self.q(x).unflatten(-1, (spec.heads.num_heads, -1)))
        if isinstance(spec.position, Rotary):
            q = forward_pass.rotate(spec.position, q)
        source = forward_pass.extended(self.spec.source, q.dtype)
        return self.o(forward_pass.attend(self.layer, spec, q, source).flatten(1))
