"""Keep what an encoder made of inputs, shared between requests of one tenant. Knows nothing of tensors.

What cross-attention reads of an input is written once, to pages that never change, and read by everyone whose
input is the same and who may share (`CacheKey`). What nobody reads is kept until its pages are needed, the
least recently read giving way first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cynosure.cache import CacheKey, PagePool
from cynosure.engine.features import Features
from cynosure.models.image_input import ImageInput


@dataclass(eq=False)
class EncoderOutput:
    """The pages of one encoded input, in order. They are filled once `is_written`."""

    key: CacheKey | None
    blocks: tuple[int, ...]
    num_readers: int = 1
    is_written: bool = False


class EncoderOutputs:
    """The outputs that are in pages. For one thread."""

    def __init__(self, pool: PagePool, block_size: int) -> None:
        """Keep nothing yet."""
        self._pool = pool
        self._block_size = block_size
        # Those that may be shared; the order is that of their last use.
        self._kept: OrderedDict[CacheKey, EncoderOutput] = OrderedDict()
        #: Pages that nobody reads, and that can be had; a plain number, for readers on other threads.
        self.num_idle_blocks = 0
        #: Tokens of inputs that were looked for, and of those that were there.
        self.num_sought = 0
        self.num_found = 0

    @property
    def tables(self) -> list[tuple[int, ...]]:
        """The pages of every output that is kept for sharing."""
        return [output.blocks for output in self._kept.values()]

    def num_blocks(self, num_tokens: int) -> int:
        """Pages that an input takes."""
        return -(-num_tokens // self._block_size)

    def cost(self, key: CacheKey | None, num_tokens: int) -> tuple[int, int]:
        """What reading an input would take: tokens to encode, and pages that others could have had."""
        output = None if key is None else self._kept.get(key)
        if output is None:
            return num_tokens, self.num_blocks(num_tokens)
        return 0, 0 if output.num_readers else len(output.blocks)

    def read(self, key: CacheKey | None, num_tokens: int) -> EncoderOutput | None:
        """Begin to read what is kept under a key, or is about to be; `None` where nothing is."""
        if key is None:
            return None
        self.num_sought += num_tokens
        output = self._kept.get(key)
        if output is not None:
            self.num_found += num_tokens
            self._kept.move_to_end(key)
            if not output.num_readers:
                self.num_idle_blocks -= len(output.blocks)
            output.num_readers += 1
        return output

    def add(self, key: CacheKey | None, num_tokens: int) -> EncoderOutput | None:
        """Take pages for an input that is not there, and begin to read it; `None` where pages do not suffice.

        Without a key nobody else will find it.
        """
        assert key not in self._kept
        num_blocks = self.num_blocks(num_tokens)
        if not self.make_room(num_blocks):
            return None
        blocks = self._pool.allocate(num_blocks)
        assert blocks is not None
        output = EncoderOutput(key, blocks)
        if key is not None:
            self._kept[key] = output
        return output

    def release(self, output: EncoderOutput) -> None:
        """Read it no longer; one that nobody can find, or that was never written, is gone with its reader."""
        assert output.num_readers > 0
        output.num_readers -= 1
        if output.num_readers:
            return
        if output.key is None:
            self._pool.release(output.blocks)
            return
        self.num_idle_blocks += len(output.blocks)
        if not output.is_written:
            self._drop(output.key)

    def make_room(self, num_blocks: int) -> bool:
        """Have so many pages free, giving up what nobody reads; `False`, and all is kept, where too few."""
        if self._pool.num_free + self.num_idle_blocks < num_blocks:
            return False
        for key in [key for key, output in self._kept.items() if not output.num_readers]:
            if self._pool.num_free >= num_blocks:
                break
            self._drop(key)
        return True

    def _drop(self, key: CacheKey) -> None:
        output = self._kept.pop(key)
        assert not output.num_readers
        self.num_idle_blocks -= len(output.blocks)
        self._pool.release(output.blocks)


def key_of_input(shared: CacheKey, content: Sequence[int] | Features | ImageInput) -> CacheKey:
    """The key of an input: `shared`, and a digest of all its tokens, or of all its numbers."""
    if isinstance(content, ImageInput):
        digest = content.digest
    elif isinstance(content, Features):
        digest = f"{content.shape}: {hashlib.sha256(content.data).hexdigest()}"
    else:
        digest = hashlib.sha256(array("q", content).tobytes()).hexdigest()
    return replace(shared, media=(*shared.media, digest))
