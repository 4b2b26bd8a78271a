"""Say what a decoder must tell that reads images, and what keeps what comes of them. Runs nothing itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from jaxtyping import Int
from torch import Tensor, nn

from cynosure.models.decoder import Decoder
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, Kept, PlacedRows, SeenRun, Span, spans_of


class ImageMemory(ABC):
    """Pages for what comes of images, reserved at the start."""

    @abstractmethod
    def write(self, image: ImageInput, blocks: Sequence[int], backend: str = "auto") -> bool:
        """Encode an image and keep what comes of it in pages; False where that is not finite."""

    @abstractmethod
    def placed(
        self, prompt: ImagePrompt, start: int, stop: int, kept: Callable[[int], Kept]
    ) -> PlacedRows | None:
        """Return what tokens `start` to `stop` read beside their ids; None where that is nothing.

        `kept` tells where an image is, by its number.
        """


class ImageReader(nn.Module, ABC):
    """A decoder, and an encoder of the images that stand among its tokens."""

    text: Decoder
    image: nn.Module

    @property
    @abstractmethod
    def image_token_id(self) -> int:
        """The token that keeps an image's places in a prompt."""

    @abstractmethod
    def num_places(self, image: ImageInput) -> int:
        """Return how many places an image takes.

        Raises:
            InputError: it is of another size, or not as this model's preprocessor gives it.
        """

    @abstractmethod
    def num_kept(self, image: ImageInput) -> int:
        """Return how many rows are kept of an image."""

    @abstractmethod
    def positions(
        self, token_ids: Sequence[int], images: Sequence[ImageInput]
    ) -> Int[Tensor, "axes n"] | None:
        """Return where the tokens of a whole prompt sit; None where they are counted one by one.

        Raises:
            InputError: a token stands for what is not read here.
        """

    @abstractmethod
    def runs(self, spans: Sequence[Span]) -> tuple[SeenRun, ...] | None:
        """Return which tokens attend to which images; None where what is kept takes the images' places."""

    @abstractmethod
    def bytes_per_row(self) -> int:
        """Return what a row takes that is kept of an image."""

    @abstractmethod
    def new_memory(self, num_blocks: int, block_size: int) -> ImageMemory:
        """Reserve pages of `block_size` rows."""


def prompt_of(reader: ImageReader, token_ids: Sequence[int], images: Sequence[ImageInput]) -> ImagePrompt:
    """Find the places of all images, in order.

    Raises:
        InputError: an image is not as the model reads it; the places are more or fewer than the images take,
            or those of an image are not side by side.
    """
    counts = [reader.num_places(image) for image in images]
    spans = spans_of(token_ids, counts, reader.image_token_id)
    return ImagePrompt(tuple(images), spans, reader.positions(token_ids, images), reader.runs(spans))
