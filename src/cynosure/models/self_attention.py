"""Project tokens to queries, keys and values, attend, project back. Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, AttentionWeights, Gate, Sink
from cynosure.attention.masks import reach
from cynosure.attention.positions import Rotary
from cynosure.cache import LayerShape
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm, NormSpec


@dataclass(frozen=True)
class QueryGrowth:
    """Multiply the query at position `p` by `1 + strength * log(1 + floor((p + shift) / every))`.

    Llama 4 in its layers without positions, after arXiv 2501.19399; Ministral 3 in all. It is done to the
    query itself, so that every backend, the kernels among them, attends as ever.
    """

    every: int
    strength: float
    shift: int = 1


@dataclass(frozen=True)
class SelfAttentionSpec:
    """Attention with a projection each for q, k, v and the output.

    `qk_norm` normalises every head of q and k before the rotation (Qwen3, Gemma 3; arXiv 2302.05442); where
    `is_qk_norm_whole`, all heads of q together, and all of k (OLMo 2); where `is_qk_norm_last`, every head
    behind the rotation (Hunyuan). `qkv_clip` bounds what the projections
    give to `[-qkv_clip, qkv_clip]` (MPT). `query_growth` scales queries by where they sit (Llama 4).
    `v_norm` normalises every head of v, and where the layer `is_read_again`, later ones attend to what it
    keeps (Gemma 3n).
    """

    attention: AttentionSpec
    has_qkv_bias: bool = False
    has_out_bias: bool = False
    qk_norm: NormSpec | None = None
    is_qk_norm_whole: bool = False
    qkv_clip: float | None = None
    query_growth: QueryGrowth | None = None
    v_norm: NormSpec | None = None
    is_read_again: bool = False
    is_qk_norm_last: bool = False


@final
class SelfAttention(AttentionBlock):
    """Multi-head attention over a sequence's own tokens (arXiv 1706.03762), grouped heads included."""

    def __init__(self, spec: SelfAttentionSpec, hidden_size: int, layer: int) -> None:
        """Hold `q`, `k`, `v`, `o`, and norms, sinks and a gate where the spec has them."""
        super().__init__()
        heads = spec.attention.heads
        self.spec = spec
        self.layer = layer
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, spec.has_qkv_bias)
        self.k = nn.Linear(hidden_size, heads.num_kv_heads * heads.head_dim, spec.has_qkv_bias)
        self.v = nn.Linear(hidden_size, heads.num_kv_heads * heads.v_head_dim, spec.has_qkv_bias)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim, hidden_size, spec.has_out_bias)
        self.q_norm, self.k_norm = self._qk_norm(heads.num_heads), self._qk_norm(heads.num_kv_heads)
        self.v_norm = nn.Identity() if spec.v_norm is None else Norm(spec.v_norm, heads.v_head_dim)
        has_sinks = spec.attention.sink is Sink.LEARNED
        self.sinks = nn.Parameter(torch.empty(heads.num_heads), requires_grad=False) if has_sinks else None
        gate = spec.attention.combination
        width = heads.v_head_dim if gate == Gate(is_per_channel=True) else 1
        has_gate = isinstance(gate, Gate)
        self.gate = nn.Linear(hidden_size, heads.num_heads * width, spec.has_qkv_bias) if has_gate else None

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
        v = self.v_norm(v.unflatten(-1, (heads.num_kv_heads, heads.v_head_dim)))
        if isinstance(position, Rotary):
            q, k = forward_pass.rotate(position, q), forward_pass.rotate(position, k)
        if self.spec.is_qk_norm_last:
            q, k = self.q_norm(q), self.k_norm(k)
        q = self._grown(q, forward_pass.batch.positions)
        source = forward_pass.extend(self.layer, k, v, is_read_again=self.spec.is_read_again)
        out = forward_pass.attend(self.layer, spec, q, source, AttentionWeights(sinks=self.sinks))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid().unflatten(-1, (heads.num_heads, -1))
        return self.o(out.flatten(1))

    def _qk_norm(self, num_heads: int) -> nn.Module:
        if self.spec.qk_norm is None:
            return nn.Identity()
        width = self.spec.attention.heads.head_dim
        return Norm(self.spec.qk_norm, num_heads * width if self.spec.is_qk_norm_whole else width)

    def _clipped(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        clip = self.spec.qkv_clip
        return x if clip is None else x.clamp(-clip, clip)

    def _grown(self, q: Float[Tensor, "n h d"], positions: Int[Tensor, "*axes n"]) -> Float[Tensor, "n h d"]:
        growth = self.spec.query_growth
        if growth is None:
            return q
        steps = torch.floor((positions.float() + growth.shift) / growth.every)
        return (q * (1.0 + growth.strength * torch.log1p(steps))[:, None, None]).to(q.dtype)

    def _by_head(
        self, x: Float[Tensor, "n width"], norm: nn.Module, num_heads: int
    ) -> Float[Tensor, "n num_heads head_dim"]:
        if self.spec.is_qk_norm_last:
            return x.unflatten(-1, (num_heads, -1))
        if self.spec.is_qk_norm_whole:
            return norm(x).unflatten(-1, (num_heads, -1))
        return norm(x.unflatten(-1, (num_heads, -1)))
