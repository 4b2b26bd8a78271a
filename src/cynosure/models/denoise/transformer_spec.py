"""Describe a diffusion transformer as a value. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.attention import Heads
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.denoise.inputs import DenoiserInputs
from cynosure.models.mlp import MlpSpec


@dataclass(frozen=True)
class TransformerSpec:
    """Layers over patches of latents, shifted and scaled by how noisy these are (arXiv 2212.09748).

    - `position_base`: up to where patches of a side lie, whatever their number.
    - `attention_norm_eps`, `mlp_norm_eps`: of the norms before attention and the feed-forward layer.
    - `text_width`: channels of what cross-attention reads; `caption_width` of what is projected to that.
    """

    inputs: DenoiserInputs
    patch_size: int
    position_base: float
    heads: Heads
    num_layers: int
    mlp: MlpSpec
    has_attention_bias: bool = True
    attention_norm_eps: float = 1e-6
    mlp_norm_eps: float = 1e-6
    text_width: int | None = None
    caption_width: int | None = None

    def __post_init__(self) -> None:
        """Refuse widths that positions can't fill."""
        if self.hidden_size % 4:
            raise UnsupportedConfig(
                f"{self.heads.num_heads} heads of {self.heads.head_dim} are {self.hidden_size} channels; "
                "waves of rows and columns share a multiple of 4. Correct config.json."
            )

    @property
    def hidden_size(self) -> int:
        """Channels of a token."""
        return self.heads.num_heads * self.heads.head_dim
