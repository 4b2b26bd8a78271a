"""Count who holds which page. Knows nothing of tensors, tokens or trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cynosure.cache.state_slots import StateSlots
from cynosure.cache.window_pages import WindowPages
from cynosure.core.errors import InputError


class PagePool:
    """Pages `0 .. num_blocks - 1`; each is free, used, or idle.

    A page is *used* while a sequence or a pin holds a reference to it, and *idle* where only the prefix
    tree retains it: what it holds may serve again, and it gives way where room is needed. For one thread.
    """

    def __init__(
        self, num_blocks: int, windows: Sequence[WindowPages] = (), states: StateSlots | None = None
    ) -> None:
        """Start with every page free.

        What `windows` hold of a page, and the copy of a state behind it, are given up with its last holder.

        Raises:
            InputError: there would be no page.
        """
        if num_blocks < 1:
            raise InputError(
                f"num_blocks is {num_blocks}; it must be at least 1. Give more memory, or smaller pages."
            )
        self.num_blocks = num_blocks
        self.windows = tuple(windows)
        self.states = states
        self._free = list(reversed(range(num_blocks)))
        self._num_references = [0] * num_blocks
        self._is_retained = [False] * num_blocks
        self._num_idle = 0

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def num_idle(self) -> int:
        """Pages that only the prefix tree retains."""
        return self._num_idle

    @property
    def num_available(self) -> int:
        """Pages that can be had without taking any from a sequence."""
        return self.num_free + self.num_idle

    def is_idle(self, block: int) -> bool:
        """Whether only the prefix tree retains this page."""
        return self._is_retained[block] and not self._num_references[block]

    def is_shared(self, block: int) -> bool:
        """Whether more than one sequence or pin holds this page, so that one giving it up frees nothing."""
        return self._num_references[block] > 1

    def is_exclusive(self, block: int) -> bool:
        """Whether one sequence holds this page and nobody else will read it: it may be written to."""
        return self._num_references[block] == 1 and not self._is_retained[block]

    def allocate(self, count: int) -> tuple[int, ...] | None:
        """Return `count` free pages with a reference each, or `None` and take none where they are too few."""
        assert count >= 0
        if count > len(self._free):
            return None
        blocks = tuple(self._free.pop() for _ in range(count))
        for block in blocks:
            self._num_references[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Add a reference to each page, which must be used or idle."""
        for block in blocks:
            assert self._num_references[block] or self._is_retained[block], f"page {block} is free"
            self._num_idle -= self.is_idle(block)
            self._num_references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Take a reference from each page; the last one leaves it idle where it is retained, else free."""
        for block in blocks:
            assert self._num_references[block], f"page {block} is released more often than it was taken"
            self._num_references[block] -= 1
            self._num_idle += self.is_idle(block)
            self._free_if_unheld(block)

    def retain(self, block: int) -> None:
        """Keep a used page when its last reference goes."""
        assert self._num_references[block], f"page {block} is not used"
        assert not self._is_retained[block], f"page {block} is retained already"
        self._is_retained[block] = True

    def evict(self, block: int) -> None:
        """Retain a page no longer; it is free at once where it was idle."""
        assert self._is_retained[block], f"page {block} is not retained"
        self._num_idle -= self.is_idle(block)
        self._is_retained[block] = False
        self._free_if_unheld(block)

    def check(self, tables: Iterable[Iterable[int]] | None = None, retained: Iterable[int] = ()) -> None:
        """Assert that every page is free or held, never both or neither.

        Args:
            tables: the pages of every sequence and pin, which must account for all references.
            retained: the pages of the prefix tree; looked at where `tables` are given.
        """
        held = [
            bool(count) or kept for count, kept in zip(self._num_references, self._is_retained, strict=True)
        ]
        free = Counter(self._free)
        for block in range(self.num_blocks):
            assert free[block] + held[block] == 1, (
                f"page {block} is {free[block]} times free and is {'' if held[block] else 'not '}held"
            )
        assert self._num_idle == sum(map(self.is_idle, range(self.num_blocks)))
        if tables is None:
            return
        counted = Counter(block for table in tables for block in table)
        assert [counted[block] for block in range(self.num_blocks)] == self._num_references, (
            f"sequences and pins hold {dict(counted)}; the pool counted {self._num_references}"
        )
        kept = [block for block, is_kept in enumerate(self._is_retained) if is_kept]
        assert sorted(retained) == kept, f"the tree holds {sorted(retained)}; the pool retains {kept}"

    def _free_if_unheld(self, block: int) -> None:
        if not self._num_references[block] and not self._is_retained[block]:
            self._free.append(block)
            for window in self.windows:
                window.forget(block)
            if self.states is not None:
                self.states.forget(block)
