"""Describe an encoder of images cut into tiles, and a decoder that attends to them. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.attention import AttentionSpec
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec

#: Tokens of a tile are filled up to a multiple of this many (as the checkpoints were trained).
FILLED_TO = 8


@dataclass(frozen=True)
class TiledVisionSpec:
    """Two stacks of layers over all patches of an image's tiles (Llama 3.2 Vision; arXiv 2407.21783, 7.1).

    - `grids`: tiles down and across that an image may have; its number among them, from 1, chooses the
      vectors that tell its tiles apart.
    - `read_layers`: whose states of the first stack stand beside those of the second, which is gated.
    - `outer_norm`: before the first stack and between both; `norm`: in the layers.
    """

    tile_size: int
    patch_size: int
    num_channels: int
    hidden_size: int
    attention: AttentionSpec
    num_layers: int
    num_gated_layers: int
    mlp: MlpSpec
    norm: NormSpec
    outer_norm: NormSpec
    max_tiles: int
    grids: tuple[tuple[int, int], ...]
    read_layers: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of a tile: its patches, behind a class token."""
        return (self.tile_size // self.patch_size) ** 2 + 1

    @property
    def num_filled(self) -> int:
        """The same with what fills them up."""
        return -(-self.num_tokens // FILLED_TO) * FILLED_TO

    @property
    def out_size(self) -> int:
        """Width of what is read of a token."""
        return self.hidden_size * (1 + len(self.read_layers))


@dataclass(frozen=True)
class CrossLayerSpec:
    """A layer that attends to images: both halves are gated, queries and keys normalised by head."""

    attention: AttentionSpec
    mlp: MlpSpec
    norm: NormSpec


@dataclass(frozen=True)
class TiledDecoderSpec:
    """A decoder between whose layers others attend to an image.

    `text` are the layers that attend to tokens. In the whole stack, those that attend to images stand at
    `cross_places`. There are `num_ids` ids that a prompt may hold, the image's among them; the vocabulary of
    answers is smaller.
    """

    text: DecoderSpec
    image: TiledVisionSpec
    cross: CrossLayerSpec
    cross_places: tuple[int, ...]
    image_token_id: int
    num_ids: int

    @property
    def vocab_size(self) -> int:
        """Ids from 0 that an answer may hold."""
        return self.text.vocab_size

    @property
    def max_model_len(self) -> int | None:
        """Tokens of a sequence; what is read of images counts for one each."""
        return self.text.max_model_len
