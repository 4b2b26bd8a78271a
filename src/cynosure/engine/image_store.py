"""Keep what stands for images, shared between requests of one tenant. Knows nothing of steps or scheduling.

An image is encoded once, for whoever sends the same numbers and may share (`CacheKey`); what nobody reads is
kept until its memory is needed (`encoder_outputs`). A sequence holds its images until their places are
computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.cache import CacheKey, PagePool
from cynosure.core.errors import EngineFault, InputError, InputTooLong
from cynosure.engine.encoder_outputs import EncoderOutput, EncoderOutputs, key_of_input
from cynosure.engine.request import Request
from cynosure.engine.settings import EngineSettings
from cynosure.models.image_prompt import ImagePrompt, Kept, PlacedRows, Span
from cynosure.models.image_reader import ImageReader, prompt_of


class ImageStore:
    """An encoder of images, and the memory for what comes of it. For one thread."""

    def __init__(self, reader: ImageReader, settings: EngineSettings, backend: str = "auto") -> None:
        """Reserve the memory.

        Raises:
            InputError: it does not hold one page of vectors.
        """
        size, row_bytes = settings.block_size, reader.bytes_per_row()
        num_blocks = settings.image_cache_bytes // (size * row_bytes)
        if num_blocks < 1:
            raise InputError(
                f"image_cache_bytes is {settings.image_cache_bytes}, which does not hold {size} rows of "
                f"{row_bytes} bytes. Raise it."
            )
        self.image_token_id = reader.image_token_id
        self._reader = reader
        self._backend = backend
        self._size = size
        self._pool = PagePool(num_blocks)
        self.memory = reader.new_memory(num_blocks, size)
        self.outputs = EncoderOutputs(self._pool, size)
        #: Images that were encoded so far.
        self.num_encoded = 0

    def check(self, request: Request) -> None:
        """Raise what is wrong with a request's images.

        Raises:
            InputError: they do not fit the model, or the places that the prompt has for them.
            InputTooLong: they can never be kept together.
        """
        prompt = prompt_of(self._reader, request.token_ids, request.images)
        num_blocks = sum(map(self.outputs.num_blocks, self._counts(prompt)))
        if num_blocks > self._pool.num_blocks:
            raise InputTooLong(
                f"the images take {num_blocks * self._size} rows; {self._pool.num_blocks * self._size} can "
                "be kept. Send fewer or smaller ones, or raise image_cache_bytes."
            )

    def place(self, request: Request, shared: CacheKey | None) -> HeldImages | None:
        """Find the places of a checked request's images; None where it brings none.

        `shared` says with whom what comes of them is shared; None: with nobody.
        """
        if not request.images:
            return None
        prompt = prompt_of(self._reader, request.token_ids, request.images)
        keys = [None if shared is None else key_of_input(shared, image) for image in request.images]
        return HeldImages(self, prompt, request.token_ids, keys, self._counts(prompt))

    def encode(self, held: HeldImages, number: int) -> None:
        """Encode an image and keep what comes of it; one at a time, so that its bits are always the same.

        Raises:
            EngineFault: numbers come out that are not finite.
        """
        output = held.output(number)
        # Kept for whoever sends the same image: what is broken must not get there.
        if not self.memory.write(held.prompt.images[number], output.blocks, self._backend):
            raise EngineFault(f"what was made of image {number} is not finite. Send the request again.")
        output.is_written = True
        self.num_encoded += 1

    def check_integrity(self, held: Sequence[HeldImages]) -> None:
        """Assert that every page is accounted for."""
        alone = [one.blocks for images in held for one in images.outputs if one.key is None]
        self._pool.check([*alone, *self.outputs.tables])

    def _counts(self, prompt: ImagePrompt) -> list[int]:
        """Rows that are kept of each image."""
        return [self._reader.num_kept(image) for image in prompt.images]


class HeldImages:
    """The images of one sequence, and what it holds of them."""

    def __init__(
        self,
        store: ImageStore,
        prompt: ImagePrompt,
        token_ids: Sequence[int],
        keys: Sequence[CacheKey | None],
        counts: Sequence[int],
    ) -> None:
        """Hold nothing yet."""
        self.prompt = prompt
        #: What pages are found by: token ids, and in an image's places what tells it from all others.
        self.page_ids = _page_ids(token_ids, prompt)
        self._store = store
        self._keys, self._counts = tuple(keys), tuple(counts)
        self._held: dict[int, EncoderOutput] = {}

    @property
    def spans(self) -> tuple[Span, ...]:
        """The places of each image."""
        return self.prompt.spans

    @property
    def outputs(self) -> tuple[EncoderOutput, ...]:
        """What is held."""
        return tuple(self._held.values())

    def output(self, number: int) -> EncoderOutput:
        """What is held of an image."""
        return self._held[number]

    def begin(self, num_computed: int) -> bool:
        """Hold what is kept of images that are still to be read, or room for it: of all, or of none."""
        outputs = self._store.outputs
        for number, (key, count) in enumerate(zip(self._keys, self._counts, strict=True)):
            if self.prompt.is_done(number, num_computed):
                continue
            output = outputs.read(key, count) or outputs.add(key, count)
            if output is None:
                self.release()
                return False
            self._held[number] = output
        return True

    def passed(self, num_computed: int) -> None:
        """Let images go that no later token reads."""
        for number in [number for number in self._held if self.prompt.is_done(number, num_computed)]:
            self._store.outputs.release(self._held.pop(number))

    def release(self) -> None:
        """Let all images go."""
        for output in self._held.values():
            self._store.outputs.release(output)
        self._held.clear()

    def unread(self, start: int, stop: int) -> list[int]:
        """The images, in order, that tokens `start` to `stop` read and that are not encoded yet."""
        return [number for number in self.prompt.used(start, stop) if not self._held[number].is_written]

    def rows(self, start: int, stop: int) -> PlacedRows | None:
        """What tokens `start` to `stop` of prompt and answer read beside their ids."""

        def kept(number: int) -> Kept:
            output = self._held[number]
            assert output.is_written, "an image is encoded before it is read"
            return output.blocks, self._counts[number]

        return self._store.memory.placed(self.prompt, start, stop, kept)


def _page_ids(token_ids: Sequence[int], prompt: ImagePrompt) -> tuple[int, ...]:
    """Put the whole digest of an image below zero: no token, and no other image, is the same number."""
    ids = list(token_ids)
    for image, (start, stop) in zip(prompt.images, prompt.spans, strict=True):
        ids[start:stop] = [-1 - int(image.digest, 16)] * (stop - start)
    return tuple(ids)
