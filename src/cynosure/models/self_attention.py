"""Project tokens to queries, keys and values, attend, project back. Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, AttentionWeights, Sink
from cynosure.attention.masks import reach
from cynosure.attention.positions import Rotary
from cynosure.cache import LayerShape
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm, NormSpec


@dataclass(frozen=True)
class SelfAttentionSpec:
    """Attention with a projection each for q, k, v and the output.

    `qk_norm` normalises every head of q and k before the rotation (Qwen3, Gemma 3; arXiv 2302.05442); where
    `is_qk_norm_whole`, all heads of q together, and all of k (OLMo 2). `qkv_clip` bounds what the projections
    give to `[-qkv_clip, qkv_clip]` (MPT).
    """

    attention: AttentionSpec
    has_qkv_bias: bool = False
    has_out_bias: bool = False
    qk_norm: NormSpec | None = None
    is_qk_norm_whole: bool = False
    qkv_clip: float | None = None


@final
class SelfAttention(AttentionBlock):
    """Multi-head attention over a sequence's own tokens (arXiv 1706.03762), grouped heads included."""

    def __init__(self, spec: SelfAttentionSpec, hidden_size: int, layer: int) -> None:
        """Hold `q`, `k`, `v`, `o`, and norms and sinks where the spec has them."""
        super().__init__()
        heads = spec.attention.heads
        self.spec = spec
        self.layer = layer
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, spec.has_qkv_bias)
        self.k = nn.Linear(hidden_size, heads.num_kv_heads * heads.head_dim, spec.has_qkv_bias)
        self.v = nn.Linear(hidden_size, heads.num_kv_heads * heads.v_head_dim, spec.has_qkv_bias)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim, hidden_size, spec.has_out_bias)
        self.q_norm, self.k_norm = self._qk_norm(heads.num_heads), self._qk_norm(heads.num_kv_heads)
        has_sinks = spec.attention.sink is Sink.LEARNED
        self.sinks = nn.Parameter(torch.empty(heads.num_heads), requires_grad=False) if has_sinks else None

    @property
    def cache_shape(self) -> LayerShape:
        """Rotated keys, and values."""
        heads, window = self.spec.attention.heads, reach(self.spec.attention.mask)
        return LayerShape(heads.num_kv_heads, heads.head_dim, heads.v_head_dim, window)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""
        spec = self.spec.attention
        heads, position = spec.heads, spec.position
        q, k, v = self._clipped(self.q(x)), self._clipped(self.k(x)), self._clipped(self.v(x))
        q = self._by_head(q, self.q_norm, heads.num_heads)
        k = self._by_head(k, self.k_norm, heads.num_kv_heads)
        v = v.unflatten(-1, (heads.num_kv_heads, heads.v_head_dim))
        if isinstance(position, Rotary):
            q, k = forward_pass.rotate(position, q), forward_pass.rotate(position, k)
        source = forward_pass.extend(self.layer, k, v)
        out = forward_pass.attend(self.layer, spec, q, source, AttentionWeights(sinks=self.sinks))
        return self.o(out.flatten(1))

    def _qk_norm(self, num_heads: int) -> nn.Module:
        if self.spec.qk_norm is None:
            return nn.Identity()
        width = self.spec.attention.heads.head_dim
        return Norm(self.spec.qk_norm, num_heads * width if self.spec.is_qk_norm_whole else width)

    def _clipped(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        clip = self.spec.qkv_clip
        return x if clip is None else x.clamp(-clip, clip)

    def _by_head(
        self, x: Float[Tensor, "n width"], norm: nn.Module, num_heads: int
    ) -> Float[Tensor, "n num_heads head_dim"]:
        if self.spec.is_qk_norm_whole:
            return norm(x).unflatten(-1, (num_heads, -1))
        return norm(x.unflatten(-1, (num_heads, -1)))
