"""A layer between several vectors a token, whose halves transform one of them. Knows nothing of heads."""

from __future__ import annotations

import math
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.models.altup import AltUp, Laurel
from cynosure.models.decoder_spec import LayerSpec
from cynosure.models.forward_pass import AttentionBlock, ForwardPass
from cynosure.models.norm import Norm


@final
class AltUpLayer(nn.Module):
    """Attention beside a branch of few dimensions, then a feed-forward layer (Gemma 3n)."""

    def __init__(
        self, spec: LayerSpec, attention: AttentionBlock, mlp: nn.Module, hidden_size: int, layer: int
    ) -> None:
        """Hold both halves with a norm before and behind each, and what is around them."""
        super().__init__()
        assert spec.altup is not None
        assert spec.has_pre_norms
        assert spec.has_post_norms
        self.spec, self.layer = spec, layer
        self.altup = AltUp(spec.altup, hidden_size)
        self.laurel = Laurel(spec.altup, hidden_size)
        self.attention, self.mlp = attention, mlp
        self.attention_norm, self.attention_post_norm = (Norm(spec.norm, hidden_size) for _ in range(2))
        self.mlp_norm, self.mlp_post_norm = (Norm(spec.norm, hidden_size) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "streams n hidden"], forward_pass: ForwardPass
    ) -> Float[Tensor, "streams n hidden"]:
        """Return the vectors of each token after this layer."""
        assert forward_pass.layer_inputs is not None, "the pass has not entered"
        predicted = self.altup.predict(x)
        transformed = self._halves(predicted[self.altup.spec.active], forward_pass)
        return self.altup.correct(predicted, transformed, forward_pass.layer_inputs[:, self.layer])

    def _halves(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        normed = self.attention_norm(x)
        attended = x + self.attention_post_norm(self.attention(normed, forward_pass))
        x = (attended + self.laurel(normed)) / math.sqrt(2)
        return x + self.mlp_post_norm(self.mlp(self.mlp_norm(x)))
