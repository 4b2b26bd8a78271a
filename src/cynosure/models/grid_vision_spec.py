"""Describe an encoder of images of any size, and a decoder behind it, as values. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.encoder_spec import EncoderLayerSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec


@dataclass(frozen=True)
class PatchGrid:
    """How many patches an image has down and across."""

    height: int
    width: int


@dataclass(frozen=True)
class GridVisionSpec:
    """Layers over the patches of images of any size, merged square by square (Qwen2-VL, arXiv 2409.12191).

    A patch comes as `num_channels * num_frames * patch_size**2` numbers; `merge_size**2` patches become one
    vector of `out_size`.
    """

    num_channels: int
    num_frames: int
    patch_size: int
    hidden_size: int
    layers: tuple[EncoderLayerSpec, ...]
    mlp: MlpSpec
    norm: NormSpec
    merge_size: int
    out_size: int
    is_pre_norm: bool = True
    has_attention_bias: bool = True
    distances: None = None

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.num_channels * self.num_frames * self.patch_size**2


@dataclass(frozen=True)
class GridDecoderSpec:
    """A decoder among whose tokens images stand; each takes as many places as it has merged patches."""

    text: DecoderSpec
    image: GridVisionSpec
    image_token_id: int
    video_token_id: int

    @property
    def vocab_size(self) -> int:
        """Ids from 0 that a prompt may hold."""
        return self.text.vocab_size

    @property
    def max_model_len(self) -> int | None:
        """Tokens of a sequence, those of images among them."""
        return self.text.max_model_len
