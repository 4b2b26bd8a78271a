"""Attend from tokens to images, between the layers of a decoder. Knows nothing of how images are encoded.

A token that sees no image passes such a layer unchanged, so that a text alone needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import attend
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.cache import LayerShape
from cynosure.models.batch import Seen
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm
from cynosure.models.tiled_vision import gate, gated
from cynosure.models.tiled_vision_spec import CrossLayerSpec


class CrossLayer(nn.Module):
    """Gated attention to images and a gated feed-forward layer (as in Flamingo, arXiv 2204.14198)."""

    def __init__(self, spec: CrossLayerSpec, hidden_size: int, number: int) -> None:
        """Hold both halves; `number` counts the layers of this kind."""
        super().__init__()
        heads = spec.attention.heads
        self.spec = spec.attention
        self.number = number
        self.attention_norm, self.mlp_norm = Norm(spec.norm, hidden_size), Norm(spec.norm, hidden_size)
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, bias=False)
        self.k = nn.Linear(hidden_size, heads.num_kv_heads * heads.head_dim, bias=False)
        self.v = nn.Linear(hidden_size, heads.num_kv_heads * heads.v_head_dim, bias=False)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim, hidden_size, bias=False)
        self.q_norm, self.k_norm = Norm(spec.norm, heads.head_dim), Norm(spec.norm, heads.head_dim)
        self.mlp = Mlp(spec.mlp, hidden_size)
        self.attention_gate, self.mlp_gate = gate(), gate()

    @property
    def shape(self) -> LayerShape:
        """What is kept of a row of an image."""
        heads = self.spec.heads
        return LayerShape(heads.num_kv_heads, heads.head_dim, heads.v_head_dim)

    def keys_and_values(
        self, states: Float[Tensor, "n hidden"]
    ) -> tuple[Float[Tensor, "n h d"], Float[Tensor, "n h dv"]]:
        """Return what this layer reads of an image."""
        num_kv_heads = self.spec.heads.num_kv_heads
        k = self.k_norm(self.k(states).unflatten(-1, (num_kv_heads, -1)))
        return k, self.v(states).unflatten(-1, (num_kv_heads, -1))

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer; those that see no image stay as they were."""
        seen = forward_pass.batch.seen
        if seen is None:
            return x
        own = self._passed(x[seen.rows], seen, forward_pass.backend)
        return x.index_copy(0, seen.rows, own)

    def _passed(self, x: Float[Tensor, "m hidden"], seen: Seen, backend: str) -> Float[Tensor, "m hidden"]:
        q = self.q_norm(self.q(self.attention_norm(x)).unflatten(-1, (self.spec.heads.num_heads, -1)))
        # Images that a token sees together are sources of one softmax, side by side.
        sources = [seen.sources[self.number]] * len(seen.plan.keys)
        state = attend(self.spec, q, sources, seen.plan, weights=NO_WEIGHTS, backend=backend)
        x = x + gated(self.o(state.out.to(x.dtype).flatten(1)), self.attention_gate)
        return x + gated(self.mlp(self.mlp_norm(x)), self.mlp_gate)


class AmongCross(nn.Module):
    """A decoder's layer with those that attend to images before it, or behind it."""

    def __init__(
        self, layer: nn.Module, before: Sequence[CrossLayer] = (), after: Sequence[CrossLayer] = ()
    ) -> None:
        """Hold all of them."""
        super().__init__()
        self.layer = layer
        self.before, self.after = nn.ModuleList(before), nn.ModuleList(after)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after all of them."""
        for one in self.before:
            x = one(x, forward_pass)
        x = self.layer(x, forward_pass)
        for one in self.after:
            x = one(x, forward_pass)
        return x
