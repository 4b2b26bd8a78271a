"""Hold what is needed at the end of a beginning while it is read back. Knows nothing of files or trees."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cynosure.cache.window_pages import WindowPages


class WindowEnd:
    """What the token after the first `num_tokens` looks at in each window, claimed until `release`.

    Groups are numbered as in the cache: that of `windows[0]` is 1. Nothing was promised, so a claim is made
    only where a page is to be had, and all are given up again before a pass.
    """

    def __init__(self, windows: Sequence[WindowPages], num_tokens: int) -> None:
        """Claim nothing yet."""
        self._windows = dict(enumerate(windows, start=1))
        self._firsts = {group: window.first_block(num_tokens) for group, window in self._windows.items()}
        self._claimed: list[tuple[int, int]] = []

    def first(self, num_here: int) -> int:
        """Return the first block to be looked at, where the first `num_here` are there already."""
        return min([num_here, *self._firsts.values()])

    def lacking(self, index: int, block: int | None) -> tuple[int, ...]:
        """Return in which groups the block at `index` needs a page and has none; those it has stay."""
        needed = [group for group, first in self._firsts.items() if index >= first]
        held = [] if block is None else [group for group in needed if self._windows[group].is_held(block)]
        if block is not None:
            self.claim(block, held)
        return tuple(group for group in needed if group not in held)

    def claim(self, block: int, groups: Collection[int]) -> tuple[int, ...]:
        """Have a block hold pages of these groups, and return those in which it does."""
        found = []
        for group in groups:
            window = self._windows[group]
            if window.is_held(block) or window.num_available:
                window.claim(block)
                self._claimed.append((group, block))
                found.append(group)
        return tuple(found)

    def release(self) -> None:
        """Give all claims up; what comes later gives way first."""
        for group, block in reversed(self._claimed):
            self._windows[group].unclaim(block, is_of_use=True)
        self._claimed = []
