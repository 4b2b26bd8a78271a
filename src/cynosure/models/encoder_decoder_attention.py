"""Project tokens to queries, keys and values, and back. Knows nothing of who attends to whom."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, AttentionWeights, DenseSource
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec
from cynosure.models.forward_pass import ForwardPass, StoredSource


class Attention(nn.Module):
    """The projections of one attention layer; biases as the spec says."""

    def __init__(
        self, spec: EncoderDecoderSpec, attention: AttentionSpec, layer: int, *, has_output: bool = True
    ) -> None:
        """Hold `q`, `k` and `v`, and `o` where something reads what was attended to."""
        super().__init__()
        heads, width, has_bias = attention.heads, spec.hidden_size, spec.has_attention_bias
        self.spec = attention
        self.layer = layer
        self.q = nn.Linear(width, heads.num_heads * heads.head_dim, has_bias)
        self.k = nn.Linear(width, heads.num_kv_heads * heads.head_dim, has_bias and spec.has_key_bias)
        self.v = nn.Linear(width, heads.num_kv_heads * heads.v_head_dim, has_bias)
        output = nn.Linear(heads.num_heads * heads.v_head_dim, width, has_bias) if has_output else None
        self.o = nn.Identity() if output is None else output

    def queries(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n heads dim"]:
        """Return the queries of `x`."""
        return self.q(x).unflatten(-1, (self.spec.heads.num_heads, -1))

    def source(self, x: Float[Tensor, "n hidden"]) -> DenseSource:
        """Return the keys and values of `x`."""
        shape = (self.spec.heads.num_kv_heads, -1)
        return DenseSource(self.k(x).unflatten(-1, shape), self.v(x).unflatten(-1, shape))

    def forward(
        self,
        x: Float[Tensor, "n hidden"],
        source: StoredSource,
        forward_pass: ForwardPass,
        weights: AttentionWeights,
    ) -> Float[Tensor, "n hidden"]:
        """Return what each token of `x` took from `source`."""
        taken = forward_pass.attend(self.layer, self.spec, self.queries(x), source, weights)
        return self.o(taken.flatten(1))
