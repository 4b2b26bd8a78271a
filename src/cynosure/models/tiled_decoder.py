"""Run a decoder between whose layers others attend to images. Knows nothing of brands or files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.cache import ContiguousCache
from cynosure.core.errors import InputError
from cynosure.models.cross_layers import AmongCross, CrossLayer
from cynosure.models.decoder import Decoder
from cynosure.models.embedding import embedding
from cynosure.models.image_input import ImageInput
from cynosure.models.image_keys import ImageKeys, bytes_per_row
from cynosure.models.image_prompt import SeenRun, Span, runs_behind
from cynosure.models.image_reader import ImageReader
from cynosure.models.tiled_vision import TiledVisionEncoder
from cynosure.models.tiled_vision_spec import TiledDecoderSpec


@final
class TiledDecoder(ImageReader):
    """All parts; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: TiledDecoderSpec) -> None:
        """Hold the decoder with layers that attend to images among its own, the encoder and the projector."""
        super().__init__()
        width = spec.text.hidden_size
        self.spec = spec
        self.text = Decoder(spec.text)
        self.text.embed = embedding(spec.num_ids, width)
        crosses = [CrossLayer(spec.cross, width, number) for number in range(len(spec.cross_places))]
        for place, (before, after) in around(spec).items():
            layer = AmongCross(
                self.text.layers[place], [crosses[one] for one in before], [crosses[one] for one in after]
            )
            self.text.layers[place] = layer
        self.image = TiledVisionEncoder(spec.image)
        self.projector = nn.Linear(spec.image.out_size, width)

    @property
    def crosses(self) -> tuple[CrossLayer, ...]:
        """The layers that attend to images, in order."""
        found = [layer for layer in self.text.modules() if isinstance(layer, CrossLayer)]
        return tuple(sorted(found, key=lambda layer: layer.number))

    def new_cache(self, num_seqs: int, max_len: int) -> ContiguousCache:
        """Return an empty cache for `num_seqs` sequences of at most `max_len` tokens."""
        return self.text.new_cache(num_seqs, max_len)

    def states(
        self, tiles: Float[Tensor, "t c h w"], grid: tuple[int, int], backend: str = "auto"
    ) -> Float[Tensor, "tokens hidden"]:
        """Return what tokens attend to of an image, tile by tile.

        Raises:
            InputError: the tiles are not as many as the grid has, of another size, or of a grid that the
                model does not know.
        """
        self._check(tuple(tiles.shape), grid)
        return self.projector(self.image(tiles, grid, backend))

    @property
    def image_token_id(self) -> int:
        """The token that keeps an image's place in a prompt."""
        return self.spec.image_token_id

    def num_places(self, image: ImageInput) -> int:
        """Return 1: tokens behind that place attend to the image.

        Raises:
            InputError: it is no `[tiles, channels, height, width]` with the grid that they form.
        """
        if image.grid is None:
            raise InputError(
                f"an image of shape {list(image.shape)} has no grid; this model reads tiles, and how many "
                "there are down and across. Give both."
            )
        self._check(image.shape, image.grid)
        return 1

    def num_kept(self, image: ImageInput) -> int:
        """Return how many rows tokens attend to: those of its own tiles."""
        return image.shape[0] * self.spec.image.num_tokens

    def positions(self, token_ids: Sequence[int], images: Sequence[ImageInput]) -> None:
        """Tokens are counted one by one, those of images too."""

    def runs(self, spans: Sequence[Span]) -> tuple[SeenRun, ...]:
        """Return which tokens attend to which images."""
        return runs_behind(spans)

    def bytes_per_row(self) -> int:
        """Return what keys and values of a row take in all layers that attend to images."""
        return bytes_per_row([cross.shape for cross in self.crosses], self.text.dtype)

    def new_memory(self, num_blocks: int, block_size: int) -> ImageKeys:
        """Reserve pages of `block_size` keys and values."""
        return ImageKeys(self._states_of, self.crosses, num_blocks, block_size, self.text.dtype)

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.text.logits(hidden)

    def _states_of(self, image: ImageInput, backend: str) -> Float[Tensor, "tokens hidden"]:
        assert image.grid is not None, "it was checked"
        return self.states(torch.tensor(image.array), image.grid, backend)

    def _check(self, shape: tuple[int, ...], grid: tuple[int, int]) -> None:
        spec = self.spec.image
        expected = (grid[0] * grid[1], spec.num_channels, spec.tile_size, spec.tile_size)
        if grid not in spec.grids or shape != expected:
            known = ", ".join(f"{down} x {across}" for down, across in spec.grids)
            raise InputError(
                f"an image of {grid[0]} x {grid[1]} tiles is of shape {list(shape)}; {list(expected)} is "
                f"needed, of {known} tiles. Give what the checkpoint's preprocessor gives, without the tiles "
                "that only fill up."
            )


def around(spec: TiledDecoderSpec) -> dict[int, tuple[list[int], list[int]]]:
    """Say which layers that attend to images stand before, and behind, which of the decoder's own."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    last = len(spec.text.layers) - 1
    for number, place in enumerate(spec.cross_places):
        own = place - number
        before, after = found.setdefault(min(own, last), ([], []))
        (before if own <= last else after).append(number)
    return found
