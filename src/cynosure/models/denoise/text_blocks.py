"""Let the places of an image attend to one another and to a text. Knows nothing of resolutions."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import Heads
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.image_attention import ImageAttention
from cynosure.models.denoise.resnet import GroupNormSpec
from cynosure.models.mlp import Mlp, MlpSpec
from cynosure.models.norm import Norm, NormKind, NormSpec

GROUP_EPS = 1e-6
_LAYER_NORM = NormSpec(NormKind.LAYER, 1e-5, has_bias=True)


@dataclass(frozen=True)
class TextBlockSpec:
    """Layers over the places of an image: how many, their heads, and the channels of the text."""

    num_layers: int
    num_heads: int
    text_width: int


class TextLayer(nn.Module):
    """Attention among places, attention to the text, a gated feed-forward layer (arXiv 2112.10752)."""

    def __init__(self, spec: TextBlockSpec, channels: int) -> None:
        """Hold the three and a norm before each."""
        super().__init__()
        heads = Heads.of(spec.num_heads, channels // spec.num_heads)
        self.attention = ImageAttention(channels, heads, has_bias=False)
        self.cross = ImageAttention(channels, heads, has_bias=False, text_width=spec.text_width)
        self.mlp = Mlp(MlpSpec(4 * channels, "gelu", is_gated=True, has_bias=True), channels)
        self.attention_norm, self.cross_norm, self.mlp_norm = (Norm(_LAYER_NORM, channels) for _ in range(3))

    def forward(self, x: Float[Tensor, "n t c"], given: DenoisingPass) -> Float[Tensor, "n t c"]:
        """Return the tokens behind this layer."""
        x = x + self.attention(self.attention_norm(x), given)
        x = x + self.cross(self.cross_norm(x), given)
        return x + self.mlp(self.mlp_norm(x).flatten(0, 1)).unflatten(0, x.shape[:2])


class TextBlock(nn.Module):
    """Layers over the places of an image, added to it (arXiv 2112.10752)."""

    def __init__(self, spec: TextBlockSpec, channels: int, num_groups: int) -> None:
        """Hold the layers between two projections."""
        super().__init__()
        self.norm = GroupNormSpec(num_groups, GROUP_EPS).build(channels)
        self.project_in = nn.Linear(channels, channels)
        self.layers = nn.ModuleList(TextLayer(spec, channels) for _ in range(spec.num_layers))
        self.project_out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "n c h w"], given: DenoisingPass) -> Float[Tensor, "n c h w"]:
        """Return the image with what its places took."""
        places = self.norm(x).flatten(2).transpose(1, 2)
        inner = self.project_in(places.flatten(0, 1)).unflatten(0, places.shape[:2])
        for layer in self.layers:
            inner = layer(inner, given)
        taken = self.project_out(inner.flatten(0, 1)).unflatten(0, places.shape[:2])
        return x + taken.transpose(1, 2).unflatten(2, x.shape[2:])
