"""Run one layer whose norms are shifted and scaled, and its halves gated. Knows nothing of by what."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.image_attention import ImageAttention
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.mlp import Mlp

OUTPUT_EPS = 1e-6


class ModulatedLayer(nn.Module):
    """Attention, cross-attention where there is a text, feed-forward (adaLN; arXiv 2212.09748)."""

    def __init__(self, spec: TransformerSpec, modulation: nn.Module) -> None:
        """Hold the halves, whose norms have no parameters, and what a graph asks for their modulation."""
        super().__init__()
        self.modulation = modulation
        self.attention_eps, self.mlp_eps = spec.attention_norm_eps, spec.mlp_norm_eps
        width, bias = spec.hidden_size, spec.has_attention_bias
        self.attention = ImageAttention(width, spec.heads, has_bias=bias)
        text = spec.text_width
        cross = None if text is None else ImageAttention(width, spec.heads, has_bias=bias, text_width=text)
        self.cross = cross
        self.mlp = Mlp(spec.mlp, width)

    def forward(
        self, x: Float[Tensor, "n t c"], modulation: Float[Tensor, "n 6 c"], given: DenoisingPass
    ) -> Float[Tensor, "n t c"]:
        """Return the tokens behind this layer; a shift, a scale and a gate modulate each half."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.split(1, 1)
        x = x + gate * self.attention(modulated(x, shift, scale, self.attention_eps), given)
        if self.cross is not None:
            x = x + self.cross(x, given)
        inner = modulated(x, mlp_shift, mlp_scale, self.mlp_eps)
        return x + mlp_gate * self.mlp(inner.flatten(0, 1)).unflatten(0, x.shape[:2])


def modulated(
    x: Float[Tensor, "n t c"], shift: Float[Tensor, "n 1 c"], scale: Float[Tensor, "n 1 c"], eps: float
) -> Float[Tensor, "n t c"]:
    """Normalise each token, then scale and shift it as its image says."""
    return functional.layer_norm(x, x.shape[-1:], eps=eps) * (1.0 + scale) + shift
