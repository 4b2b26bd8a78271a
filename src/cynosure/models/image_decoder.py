"""Run a decoder over tokens some of which stand for images. Knows nothing of brands, files or tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.cache import ContiguousCache
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch, Inserted
from cynosure.models.decoder import Decoder, Output
from cynosure.models.forward_pass import KeyValueCache
from cynosure.models.image_decoder_spec import ImageDecoderSpec
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import Span
from cynosure.models.image_reader import ImageReader
from cynosure.models.image_vectors import ImageVectors
from cynosure.models.mlp import ACTIVATIONS
from cynosure.models.vision import VisionEncoder


class Projector(nn.Module):
    """Make vectors of tokens of the states of patches."""

    def __init__(self, spec: ImageDecoderSpec) -> None:
        """Hold both layers."""
        super().__init__()
        width = spec.text.hidden_size
        self.up = nn.Linear(spec.image.hidden_size, width, spec.has_projector_bias)
        self.act = ACTIVATIONS[spec.activation]
        self.down = nn.Linear(width, width, spec.has_projector_bias)

    def forward(self, x: Float[Tensor, "n tokens image_hidden"]) -> Float[Tensor, "n tokens hidden"]:
        """Return vectors as wide as the decoder's."""
        return self.down(self.act(self.up(x)))


@final
class ImageDecoder(ImageReader):
    """All three parts; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: ImageDecoderSpec) -> None:
        """Hold the decoder, the encoder of images and the projector."""
        super().__init__()
        self.spec = spec
        self.text = Decoder(spec.text)
        self.image = VisionEncoder(spec.image)
        self.projector = Projector(spec)

    def new_cache(self, num_seqs: int, max_len: int) -> ContiguousCache:
        """Return an empty cache for `num_seqs` sequences of at most `max_len` tokens."""
        return self.text.new_cache(num_seqs, max_len)

    @property
    def image_token_id(self) -> int:
        """The token that keeps an image's places in a prompt."""
        return self.spec.image_token_id

    def num_places(self, image: ImageInput) -> int:
        """Return how many places an image takes.

        Raises:
            InputError: it is no `[channels, height, width]` of the model's size.
        """
        patches = self.spec.image.patches
        expected = (patches.num_channels, patches.image_size, patches.image_size)
        if image.shape != expected or image.grid is not None:
            raise InputError(
                f"an image is of shape {list(image.shape)}{'' if image.grid is None else ' and has a grid'}; "
                f"this model reads {list(expected)} alone, and its positions are not interpolated. Resize it."
            )
        return self.spec.num_image_tokens

    def num_kept(self, image: ImageInput) -> int:
        """Return how many rows are kept of an image: one for each place."""
        return self.num_places(image)

    def vectors(self, image: ImageInput, backend: str = "auto") -> Float[Tensor, "places hidden"]:
        """Return what stands in the places of an image."""
        return self.features(torch.tensor(image.array)[None], backend)[0]

    def positions(self, token_ids: Sequence[int], images: Sequence[ImageInput]) -> None:
        """Tokens are counted one by one, those of images too."""

    def runs(self, spans: Sequence[Span]) -> None:
        """What is kept of an image takes its places."""

    def bytes_per_row(self) -> int:
        """Return what a vector takes."""
        return self.text.spec.hidden_size * self.text.dtype.itemsize

    def new_memory(self, num_blocks: int, block_size: int) -> ImageVectors:
        """Reserve pages of `block_size` vectors."""
        width, dtype = self.text.spec.hidden_size, self.text.dtype
        return ImageVectors(self.vectors, num_blocks, block_size, width, dtype)

    def features(
        self, pixels: Float[Tensor, "n c h w"], backend: str = "auto"
    ) -> Float[Tensor, "n tokens hidden"]:
        """Return what stands for each image among the tokens of a text.

        Raises:
            InputError: the images are none, or of another size than the model's.
        """
        states = self.image(pixels, backend=backend).hidden
        return self.projector(states[:, states.shape[1] - self.spec.num_image_tokens :])

    def forward(
        self,
        batch: Batch,
        cache: KeyValueCache | None = None,
        *,
        pixels: Float[Tensor, "n c h w"] | None = None,
        backend: str = "auto",
    ) -> Output:
        """Return the hidden states of the batch's tokens, which `cache` then holds.

        Args:
            batch: tokens; each image has as many places of the image token as `spec.num_image_tokens`.
            cache: keys and values of what came before.
            pixels: the images whose places are in this batch, in order.
            backend: of attention, by name.

        Raises:
            InputError: images and their places do not match in number, or images are of another size.
            InputTooLong: the cache has no room.
        """
        features = None if pixels is None else self.features(pixels, backend).flatten(0, 1)
        batch = in_places(batch, self.spec.image_token_id, features)
        return self.text(batch, cache, backend=backend)

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.text.logits(hidden)


def in_places(batch: Batch, image_token_id: int, features: Float[Tensor, "m hidden"] | None) -> Batch:
    """Return the batch with what stands for images in their places.

    Raises:
        InputError: there are more or fewer places than images take.
    """
    is_image = batch.token_ids == image_token_id
    num_places, num_taken = int(is_image.sum()), 0 if features is None else features.shape[0]
    if num_places != num_taken:
        raise InputError(
            f"the images that were given take {num_taken} places, and the tokens have {num_places} (id "
            f"{image_token_id}). Give as many as are taken."
        )
    if features is None:
        return batch
    return replace(batch, inserted=Inserted(is_image.nonzero().squeeze(1), features))
