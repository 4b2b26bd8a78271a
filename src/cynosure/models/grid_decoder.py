"""Run a decoder over tokens some of which stand for images of any size. Knows nothing of brands or files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.cache import ContiguousCache
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder, Output
from cynosure.models.forward_pass import KeyValueCache
from cynosure.models.grid_positions import check_grid, token_positions
from cynosure.models.grid_vision import GridVisionEncoder
from cynosure.models.grid_vision_spec import GridDecoderSpec, PatchGrid
from cynosure.models.image_decoder import in_places
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import Span
from cynosure.models.image_reader import ImageReader
from cynosure.models.image_vectors import ImageVectors


@final
class GridDecoder(ImageReader):
    """Both parts; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: GridDecoderSpec) -> None:
        """Hold the decoder and the encoder of images."""
        super().__init__()
        self.spec = spec
        self.text = Decoder(spec.text)
        self.image = GridVisionEncoder(spec.image)

    def new_cache(self, num_seqs: int, max_len: int) -> ContiguousCache:
        """Return an empty cache for `num_seqs` sequences of at most `max_len` tokens."""
        return self.text.new_cache(num_seqs, max_len)

    @property
    def image_token_id(self) -> int:
        """The token that keeps an image's places in a prompt."""
        return self.spec.image_token_id

    def num_places(self, image: ImageInput) -> int:
        """Return how many places an image takes: one for each square of patches.

        Raises:
            InputError: it is no `[patches, width]` with the grid that they form, or squares do not cover it.
        """
        spec = self.spec.image
        if image.grid is None:
            raise InputError(
                f"an image of shape {list(image.shape)} has no grid; this model reads patches, and how many "
                "there are down and across. Give both."
            )
        grid = PatchGrid(*image.grid)
        check_grid(grid, spec.merge_size)
        expected = (grid.height * grid.width, spec.patch_width)
        if image.shape != expected:
            raise InputError(
                f"an image of {grid.height} x {grid.width} patches is of shape {list(image.shape)}; "
                f"{list(expected)} is needed. Give what the checkpoint's preprocessor gives."
            )
        return expected[0] // spec.merge_size**2

    def num_kept(self, image: ImageInput) -> int:
        """Return how many rows are kept of an image: one for each place."""
        return self.num_places(image)

    def vectors(self, image: ImageInput, backend: str = "auto") -> Float[Tensor, "places hidden"]:
        """Return what stands in the places of an image."""
        assert image.grid is not None, "it was checked"
        return self.image(torch.tensor(image.array), [PatchGrid(*image.grid)], backend)

    def positions(self, token_ids: Sequence[int], images: Sequence[ImageInput]) -> Int[Tensor, "3 n"] | None:
        """Return time, row and column of each token; None where no image is among them.

        Raises:
            InputError: images and their places do not match, or a token stands for a video.
        """
        self._check_ids(token_ids)
        if not images:
            return None
        grids = [PatchGrid(*image.grid) for image in images if image.grid is not None]
        return token_positions(token_ids, grids, self.spec.image_token_id, self.spec.image.merge_size)

    def runs(self, spans: Sequence[Span]) -> None:
        """What is kept of an image takes its places."""

    def bytes_per_row(self) -> int:
        """Return what a vector takes."""
        return self.text.spec.hidden_size * self.text.dtype.itemsize

    def new_memory(self, num_blocks: int, block_size: int) -> ImageVectors:
        """Reserve pages of `block_size` vectors."""
        width, dtype = self.text.spec.hidden_size, self.text.dtype
        return ImageVectors(self.vectors, num_blocks, block_size, width, dtype)

    def pack(self, sequences: Sequence[Sequence[int]], grids: Sequence[Sequence[PatchGrid]]) -> Batch:
        """Return whole sequences as one batch, each token at its time, row and column.

        A chunk of a sequence keeps the positions that it has in the whole: pack the chunk with
        `Batch.pack`, and give it the columns of `grid_positions.token_positions`.

        Raises:
            InputError: images and their places do not match.
            EmptyInput: there is no sequence, or one without tokens.
        """
        spec = self.spec
        batch = Batch.pack(sequences)
        positions = [
            token_positions(ids, sizes, spec.image_token_id, spec.image.merge_size)
            for ids, sizes in zip(sequences, grids, strict=True)
        ]
        return replace(batch, positions=torch.cat(positions, 1))

    def forward(
        self,
        batch: Batch,
        cache: KeyValueCache | None = None,
        *,
        patches: Float[Tensor, "n width"] | None = None,
        grids: Sequence[PatchGrid] = (),
        backend: str = "auto",
    ) -> Output:
        """Return the hidden states of the batch's tokens, which `cache` then holds.

        Args:
            batch: tokens, with positions on three axes.
            cache: keys and values of what came before.
            patches: of the images whose places are in this batch, in order.
            grids: how many patches each of them has.
            backend: of attention, by name.

        Raises:
            InputError: images and places do not match, positions have one axis, or a token is a video's.
            InputTooLong: the cache has no room.
        """
        if batch.positions.dim() != 2:
            raise InputError(
                "positions have one axis; this decoder rotates by time, row and column. Pack with `pack`."
            )
        self._check_ids(batch.token_ids.tolist())
        features = None if patches is None else self.image(patches, grids, backend)
        batch = in_places(batch, self.spec.image_token_id, features)
        return self.text(batch, cache, backend=backend)

    def _check_ids(self, token_ids: Sequence[int]) -> None:
        if self.spec.video_token_id in token_ids:
            raise InputError(
                f"token {self.spec.video_token_id} stands for a video, which is not read here. Leave it out."
            )

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.text.logits(hidden)
