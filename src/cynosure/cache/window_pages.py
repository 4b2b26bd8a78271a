"""Say which page holds a block's tokens in the layers of one window. Knows nothing of tensors or sequences.

A block names the same tokens in all layers. Layers that keep everything have a page for every block; layers
that look back at most `window` tokens share a smaller pool, in which a block has a page only while somebody
needs it, and after that for as long as no other block asks for the room.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

import numpy as np

from cynosure.core.errors import InputError


class WindowPages:
    """Pages `0 .. num_pages - 1`; each is free, claimed, or idle. For one thread.

    A page is *claimed* while a sequence's window covers its block, and *idle* once none does: it may serve a
    later sequence that begins with the same tokens, and the least recently claimed gives way.

    Room is promised before it is claimed: `reserve` counts what a sequence may come to hold, never more than
    `max_held`, so that `claim` cannot fail under way. Pages that two sequences have in common are promised to
    each.

    Args:
        window: how many tokens back a query looks at most, itself included.
        num_pages: how many blocks can have a page at once.
        num_blocks: how many blocks there are.
        block_size: tokens of a block.
        max_step: the most tokens that one pass adds to a sequence.
    """

    def __init__(self, window: int, num_pages: int, num_blocks: int, block_size: int, max_step: int) -> None:
        """Start with every page free.

        Raises:
            InputError: there would be no page.
        """
        if num_pages < 1:
            raise InputError(f"num_pages is {num_pages}; it must be at least 1. Give more memory.")
        self.window = window
        self.num_pages = num_pages
        self.block_size = block_size
        self.max_held = max_held(window, block_size, max_step)
        #: Where a block without a page is: one past the last, a page of zeros that every mask hides.
        self.nowhere = num_pages
        #: The page of each block. The last entry is that of "no block", -1, which has no page either.
        self.page_of = np.full(num_blocks + 1, self.nowhere, np.int64)
        self.page_of[num_blocks] = -1
        self._block_of: list[int | None] = [None] * num_pages
        self._num_claims = [0] * num_pages
        self._free = list(reversed(range(num_pages)))
        # The least recently claimed first.
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._num_reserved = 0

    @property
    def num_claimed(self) -> int:
        """Pages that a sequence or a pin needs."""
        return self.num_pages - self.num_available

    @property
    def num_available(self) -> int:
        """Pages that can be had without taking any from a sequence."""
        return len(self._free) + len(self._idle)

    @property
    def num_unreserved(self) -> int:
        """Pages that nobody was promised."""
        return self.num_pages - self._num_reserved

    def first_block(self, num_tokens: int) -> int:
        """Return the first block that the token after `num_tokens` others looks at."""
        return max(0, num_tokens - self.window + 1) // self.block_size

    def quota(self, num_blocks: int) -> int:
        """Return how many pages a sequence of so many blocks may come to hold at once."""
        return min(self.max_held, num_blocks)

    def reserve(self, count: int) -> bool:
        """Promise so many pages; `False`, and none is promised, where there are too few."""
        if count > self.num_unreserved:
            return False
        self._num_reserved += count
        return True

    def unreserve(self, count: int) -> None:
        """Take a promise back."""
        assert 0 <= count <= self._num_reserved, "more is given back than was promised"
        self._num_reserved -= count

    def is_held(self, block: int) -> bool:
        """Whether a block has a page, claimed or idle."""
        return bool(self.page_of[block] != self.nowhere)

    def claim(self, block: int) -> None:
        """Have a block keep its page until `unclaim`, or take one whose content is to be written."""
        page = int(self.page_of[block])
        if page == self.nowhere:
            page = self._take()
            self.page_of[block], self._block_of[page] = page, block
        elif not self._num_claims[page]:
            del self._idle[page]
        self._num_claims[page] += 1

    def unclaim(self, block: int, *, is_of_use: bool) -> None:
        """Give up a claim; the last one leaves the page idle where it `is_of_use` to others, else free."""
        page = int(self.page_of[block])
        assert page != self.nowhere, f"block {block} has no page"
        assert self._num_claims[page], f"block {block} is given up more often than it was claimed"
        self._num_claims[page] -= 1
        if self._num_claims[page]:
            return
        self._idle[page] = None
        if not is_of_use:
            self._drop(page)

    def forget(self, block: int) -> None:
        """Note that nobody holds a block any more."""
        page = int(self.page_of[block])
        if page != self.nowhere:
            assert not self._num_claims[page], f"block {block} is free while its page is claimed"
            self._drop(page)

    def merge(self, source: int, to: int) -> None:
        """Have `to`, a block of the same tokens, take over what `source` has: claim, page or both."""
        page, count = int(self.page_of[source]), 0
        if page == self.nowhere:
            return
        if not self.is_held(to):
            self.page_of[source], self.page_of[to], self._block_of[page] = self.nowhere, page, to
            return
        count = self._num_claims[page]
        for _ in range(count):
            self.claim(to)
            self.unclaim(source, is_of_use=False)

    def check(self, claimed: Iterable[Iterable[int]] | None = None) -> None:
        """Assert that every page is free, claimed or idle, and has one block or none.

        Args:
            claimed: the blocks that each sequence and pin has claimed, which must account for all claims.
        """
        free = Counter(self._free)
        for page, block in enumerate(self._block_of):
            is_idle, is_claimed = page in self._idle, bool(self._num_claims[page])
            assert free[page] + is_idle + is_claimed == 1, f"page {page} is in two states, or in none"
            assert (block is None) == bool(free[page]), f"page {page} has block {block}"
            assert block is None or self.page_of[block] == page, f"block {block} has another page"
        assert int((self.page_of[:-1] != self.nowhere).sum()) == self.num_pages - len(self._free)
        assert self.num_claimed <= self._num_reserved <= self.num_pages, (
            f"{self.num_claimed} pages are claimed, {self._num_reserved} of {self.num_pages} were promised"
        )
        if claimed is None:
            return
        counted = Counter(int(self.page_of[block]) for blocks in claimed for block in blocks)
        assert [counted[page] for page in range(self.num_pages)] == self._num_claims, (
            f"sequences and pins claim {dict(counted)}; the pool counted {self._num_claims}"
        )

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        assert self._idle, "a page is claimed that was not promised"
        page, _ = self._idle.popitem(last=False)
        block = self._block_of[page]
        assert block is not None
        self.page_of[block] = self.nowhere
        return page

    def _drop(self, page: int) -> None:
        """Free an idle page."""
        del self._idle[page]
        block = self._block_of[page]
        assert block is not None
        self.page_of[block], self._block_of[page] = self.nowhere, None
        self._free.append(page)


def max_held(window: int, block_size: int, max_step: int) -> int:
    """Return how many blocks the windows of a pass's tokens touch at most, wherever they begin in a block."""
    return -(-(window + max_step - 2) // block_size) + 1
