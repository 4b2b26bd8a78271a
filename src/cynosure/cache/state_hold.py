"""Hold one sequence's state, and the copies that it makes on its way. Knows nothing of tensors or trees."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cynosure.cache.state_slots import StateSlots
from cynosure.cache.state_store import StatePath


class StateHold:
    """A sequence's slot, from its first `reserve` to `release`.

    Copies are made at edges between pages: at those that `begin` names, each of them once, and behind the
    answer, where the newest takes the place of the one before. A copy is found by others from `keep` on.

    Args:
        slots: of all sequences.
        block_size: tokens of a page.
        is_shared: whether others may find copies.
    """

    def __init__(self, slots: StateSlots, block_size: int, *, is_shared: bool) -> None:
        """Hold nothing."""
        self.slot: int | None = None
        self._slots = slots
        self._block_size = block_size
        self._is_shared = is_shared
        self._start: int | None = None
        self._edges: frozenset[int] = frozenset()
        self._answer_start: int | None = None
        self._last_of_answer: int | None = None
        # Copies that no one can find yet: the number of tokens that they have seen, and the slot.
        self._written: dict[int, int] = {}

    @property
    def lent(self) -> tuple[int, ...]:
        """Slots of copies that are not kept yet."""
        return tuple(self._written.values())

    def begin(self, block: int | None, num_known: Collection[int], answer_start: int) -> None:
        """Begin behind a block whose state is kept, or with nothing.

        Args:
            block: the last of the blocks that the sequence begins with.
            num_known: numbers of tokens, each a whole number of pages, behind which a copy is worth its room.
            answer_start: from this number of tokens on the newest edge of all is.
        """
        assert self.slot is None, "a sequence begins once"
        self._start, self._edges, self._answer_start = block, frozenset(num_known), answer_start

    @property
    def has_room(self) -> bool:
        """Whether `reserve` would succeed."""
        return self.slot is not None or self._slots.num_free > 0

    def reserve(self) -> None:
        """Have a slot; there is room. It holds what is kept behind the block that was begun with."""
        if self.slot is not None:
            return
        self.slot = self._slots.take()
        assert self.slot is not None, "room was not looked for"
        if self._start is not None:
            self._slots.restore(self._start, self.slot)

    def hold(self, num_tokens: int, num_new: int) -> None:
        """Have room for the copies of a pass over `num_new` tokens behind `num_tokens`, if there is."""
        if not self._is_shared:
            return
        first = num_tokens // self._block_size + 1
        stop = (num_tokens + num_new) // self._block_size + 1
        for count in range(first * self._block_size, stop * self._block_size, self._block_size):
            if count not in self._written and self._is_wanted(count, num_tokens + num_new):
                slot = self._slots.lend()
                if slot is not None:
                    self._written[count] = slot

    def path(self, num_tokens: int) -> StatePath:
        """Return where states go in a pass behind `num_tokens` tokens."""
        assert self.slot is not None, "reserve comes before the pass"
        copies = ((count - num_tokens, slot) for count, slot in sorted(self._written.items()))
        return StatePath(self.slot, tuple((count, slot) for count, slot in copies if count > 0))

    def keep(self, blocks: Sequence[int], num_tokens: int) -> None:
        """Have the copies be found that were made within the first `num_tokens`, which are in `blocks`."""
        for count in [count for count in sorted(self._written) if count <= num_tokens]:
            block = blocks[count // self._block_size - 1]
            self._slots.keep(block, self._written.pop(count))
            if count not in self._edges:
                if self._last_of_answer not in (None, block):
                    self._slots.forget(self._last_of_answer)
                self._last_of_answer = block

    def release(self) -> None:
        """Give the slot back, and copies that nobody can find."""
        for slot in self._written.values():
            self._slots.drop(slot)
        if self.slot is not None:
            self._slots.give(self.slot)
        self.slot = self._start = self._last_of_answer = None
        self._edges, self._written = frozenset(), {}

    def _is_wanted(self, count: int, stop: int) -> bool:
        """Whether a copy is worth its room: of the answer's edges in one pass, the last."""
        if count in self._edges:
            return True
        is_answer = self._answer_start is not None and count > self._answer_start
        return is_answer and count + self._block_size > stop
