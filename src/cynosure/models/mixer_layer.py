"""A layer that mixes tokens and has no feed-forward half, as Mamba-2's. Knows nothing of what mixes them."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.models.decoder_spec import LayerSpec
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm


@final
class MixerLayer(nn.Module):
    """A block behind a norm, added to what came in, which may be wider than the weights (float32)."""

    def __init__(self, spec: LayerSpec, block: AttentionBlock, hidden_size: int) -> None:
        """Hold the two; the spec has no feed-forward half."""
        super().__init__()
        assert spec.mlp is None
        self.spec = spec
        self.attention_norm = Norm(spec.norm, hidden_size)
        self.attention = block

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer, in the dtype of `x`."""
        normed = self.attention_norm(x.to(self.attention_norm.weight.dtype))
        return x + self.attention(normed, forward_pass).to(x.dtype)
