"""Run a decoder over tokens some of which stand for images of any size. Knows nothing of brands or files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.cache import ContiguousCache
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder, Output
from cynosure.models.forward_pass import ForwardPass, KeyValueCache
from cynosure.models.grid_positions import token_positions
from cynosure.models.grid_vision import GridVisionEncoder
from cynosure.models.grid_vision_spec import GridDecoderSpec, PatchGrid
from cynosure.models.image_decoder import in_places


class GridDecoder(nn.Module):
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
        if bool((batch.token_ids == self.spec.video_token_id).any()):
            raise InputError(
                f"token {self.spec.video_token_id} stands for a video, which is not read here. Leave it out."
            )
        features = None if patches is None else self.image(patches, grids, backend)
        x = in_places(self.text.embedded(batch), batch, self.spec.image_token_id, features)
        return self.text.through(x, ForwardPass(batch, cache, backend=backend))

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.text.logits(hidden)
