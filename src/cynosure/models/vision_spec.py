"""Describe an encoder of images, alone or beside one of texts, as values. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.encoder_spec import EncoderLayerSpec, EncoderSpec, HeadSpec, TransformSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec


@dataclass(frozen=True)
class PatchSpec:
    """How a square image becomes tokens: one a square patch, behind a class token where there is one."""

    image_size: int
    patch_size: int
    num_channels: int = 3
    has_bias: bool = True
    has_class_token: bool = True

    def __post_init__(self) -> None:
        """Refuse images without a whole patch."""
        if self.image_size < self.patch_size:
            raise UnsupportedConfig(
                f"an image of {self.image_size} pixels a side holds no patch of {self.patch_size}. Correct "
                "image_size or patch_size in config.json."
            )

    @property
    def num_tokens(self) -> int:
        """Tokens of an image; pixels behind the last whole patch of a side are in none."""
        return (self.image_size // self.patch_size) ** 2 + self.has_class_token

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.num_channels * self.patch_size**2


class ImagePooling(Enum):
    """Which vector stands for an image.

    `CLASS` is the class token behind the last norm (ViT), `CLASS_ALONE` the same where the norm reads nothing
    but that token (CLIP), `PROBE` what one learned query takes from all tokens (SigLIP; arXiv 1810.00825).
    """

    NONE = "none"
    CLASS = "class"
    CLASS_ALONE = "class_alone"
    PROBE = "probe"


@dataclass(frozen=True)
class VisionSpec:
    """Bidirectional layers over the patches of an image (arXiv 2010.11929), and what reads them.

    `has_first_norm` stands between positions and layers. The pooled vector goes through `transform` and then
    through a projection to `projection_size`, where there are such.
    """

    patches: PatchSpec
    hidden_size: int
    layers: tuple[EncoderLayerSpec, ...]
    mlp: MlpSpec
    norm: NormSpec
    pooling: ImagePooling
    is_pre_norm: bool = True
    has_attention_bias: bool = True
    has_first_norm: bool = False
    transform: TransformSpec | None = None
    projection_size: int | None = None
    head: HeadSpec | None = None
    distances: None = None


class TextPooling(Enum):
    """Which token stands for a text: the last, the first that ends a text, or that of the highest id.

    The last of the three is how CLIP's first configs, whose `eos_token_id` is 2, are read.
    """

    LAST = "last"
    FIRST_END = "first_end"
    HIGHEST_ID = "highest_id"


@dataclass(frozen=True)
class TextTowerSpec:
    """An encoder of texts, and how one of its tokens becomes a vector beside those of images."""

    encoder: EncoderSpec
    pooling: TextPooling
    projection_size: int
    end_token_id: int | None = None
    has_projection_bias: bool = False


@dataclass(frozen=True)
class ImageTextSpec:
    """Two encoders whose vectors are compared: `scale * cosine`, and a bias where there is one."""

    text: TextTowerSpec
    image: VisionSpec
    has_logit_bias: bool = False
