"""Say who holds which slot for a state, and what is kept behind a page. Knows nothing of tensors.

A recurrence can't be cut back to an earlier token, so a sequence that begins with known tokens needs the
state as it was behind them. Copies are made at ends of pages, as many as there is room for, and are found by
the page: its place in the prefix tree spells out tenant, model and every token before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable


class StateSlots:
    """Slots `0 .. num_running - 1` are for sequences, the `num_kept` after them for copies. For one thread.

    No sequence ever waits for a copy, nor a copy for a sequence: that `num_running` sequences run is certain.
    Of the copies, the least recently used gives way.

    Args:
        num_running: sequences that can have a state at once.
        num_kept: copies that can be kept at once.
        copy: copies a slot's states of all layers, `(source, destination)`.
    """

    def __init__(self, num_running: int, num_kept: int, copy: Callable[[int, int], None]) -> None:
        """Start with every slot free."""
        assert num_running > 0
        self.num_running, self.num_kept = num_running, num_kept
        self._copy = copy
        self._free = list(reversed(range(num_running)))
        self._free_copies = list(reversed(range(num_running, num_running + num_kept)))
        # The copy behind each block, the least recently used first.
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._lent: set[int] = set()

    @property
    def num_free(self) -> int:
        """Sequences that could still have a state."""
        return len(self._free)

    @property
    def num_copies(self) -> int:
        """Copies that may be found."""
        return len(self._kept)

    def take(self) -> int | None:
        """Return a slot for a sequence, or `None` where all are taken."""
        return self._free.pop() if self._free else None

    def give(self, slot: int) -> None:
        """Take a sequence's slot back."""
        assert 0 <= slot < self.num_running, f"slot {slot} is no sequence's"
        assert slot not in self._free, f"slot {slot} is given back twice"
        self._free.append(slot)

    def is_kept(self, block: int) -> bool:
        """Whether a copy is kept of the state behind a block."""
        return block in self._kept

    def restore(self, block: int, slot: int) -> None:
        """Have a sequence's slot hold the state that is kept behind a block."""
        self._copy(self._kept[block], slot)
        self._kept.move_to_end(block)

    def lend(self) -> int | None:
        """Return a slot that a copy may be written to, or `None` where there is none; `keep` or `drop` it."""
        if not self._free_copies and self._kept:
            self.forget(next(iter(self._kept)))
        if not self._free_copies:
            return None
        slot = self._free_copies.pop()
        self._lent.add(slot)
        return slot

    def keep(self, block: int, slot: int) -> None:
        """Have a written copy be found behind a block; of two alike the newer stays."""
        self._lent.remove(slot)
        self.forget(block)
        self._kept[block] = slot

    def drop(self, slot: int) -> None:
        """Give up a copy that was lent and not kept."""
        self._lent.remove(slot)
        self._free_copies.append(slot)

    def forget(self, block: int) -> None:
        """Give up what is kept behind a block, if anything is: nobody holds the block, or it is of no use."""
        slot = self._kept.pop(block, None)
        if slot is not None:
            self._free_copies.append(slot)

    def check(self, taken: Iterable[int] | None = None, lent: Iterable[int] = ()) -> None:
        """Assert that every slot is free, taken, lent or kept, and in one of these states alone.

        Args:
            taken: slots of sequences, which must be all that are taken; not looked at where there is none.
            lent: slots that sequences write copies to, all of them.
        """
        copies = [*self._free_copies, *self._kept.values(), *self._lent]
        expected = range(self.num_running, self.num_running + self.num_kept)
        assert sorted(copies) == list(expected), f"copies are in {sorted(copies)}, not in {expected}"
        assert len(set(self._free)) == len(self._free), "a slot is free twice"
        if taken is None:
            return
        held = [*self._free, *taken]
        assert sorted(held) == list(range(self.num_running)), f"sequences and the free ones make {held}"
        assert sorted(lent) == sorted(self._lent), f"sequences write to {sorted(lent)}, not {self._lent}"
