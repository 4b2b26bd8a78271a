"""Hold what one sequence needs of a window's pages. Knows nothing of tensors or trees."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.cache.window_pages import WindowPages


class WindowHold:
    """The run `start:stop` of a sequence's blocks whose pages it has claimed, and how many it was promised.

    Args:
        pages: of the layers of one window.
        is_shared: whether others may find the sequence's blocks, so that pages behind its window are of use.
    """

    def __init__(self, pages: WindowPages, *, is_shared: bool) -> None:
        """Hold nothing."""
        self.start = self.stop = 0
        self._pages = pages
        self._is_shared = is_shared
        self._num_reserved = 0

    def has_room(self, num_blocks: int) -> bool:
        """Whether `reserve` would succeed."""
        return self._pages.quota(num_blocks) - self._num_reserved <= self._pages.num_unreserved

    def reserve(self, num_blocks: int) -> None:
        """Be promised what a sequence of so many blocks needs; there is room."""
        missing = max(0, self._pages.quota(num_blocks) - self._num_reserved)
        is_promised = self._pages.reserve(missing)
        assert is_promised, "room was not looked for"
        self._num_reserved += missing

    def slide(self, blocks: Sequence[int], num_tokens: int, stop: int) -> None:
        """Claim what tokens behind the first `num_tokens` look at, up to block `stop`; let the rest go."""
        start = self._pages.first_block(num_tokens)
        for index in range(self.start, min(start, self.stop)):
            self._pages.unclaim(blocks[index], is_of_use=self._is_shared)
        first = max(start, self.stop)
        self.start, self.stop = start, max(first, stop)
        for index in range(first, self.stop):
            self._pages.claim(blocks[index])

    def moved(self, source: int, to: int) -> None:
        """Note that one of the sequence's blocks is another one now, of the same tokens."""
        # What is left of it behind the window serves others under the block that they find.
        self._pages.merge(source, to)

    def claimed(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """Return the blocks whose pages are claimed."""
        return tuple(blocks[self.start : self.stop])

    def release(self, blocks: Sequence[int]) -> None:
        """Give all claims and promises up; what comes later in the sequence gives way first."""
        for index in reversed(range(self.start, self.stop)):
            self._pages.unclaim(blocks[index], is_of_use=self._is_shared)
        self._pages.unreserve(self._num_reserved)
        self.start = self.stop = self._num_reserved = 0
