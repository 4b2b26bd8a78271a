"""Share a memory out among pages, states of sequences, and copies of states. Knows nothing of tensors.

The rule, with `s` bytes of one sequence's state:

1. States get half of the memory where layers keep pages beside them, and else all of it; but room for one
   state always, and no more than is of use.
2. Of the slots that this makes, sequences get three of four, up to as many as may run at once. Copies at ends
   of pages, from which later sequences begin, get the rest, up to `COPIES_PER_SEQUENCE` for each of these.
3. All that is left goes to pages.

So where a memory is short, fewer sequences run at once, and the others wait.
"""

from __future__ import annotations

from dataclasses import dataclass

COPIES_PER_SEQUENCE = 4


@dataclass(frozen=True)
class StateCounts:
    """How many sequences can have a state at once, and how many copies can be kept."""

    num_running: int
    num_kept: int

    @property
    def num_slots(self) -> int:
        """Both."""
        return self.num_running + self.num_kept


def state_counts(
    memory_bytes: int, slot_bytes: int, max_num_seqs: int, *, has_pages: bool, keeps_copies: bool
) -> StateCounts:
    """Return the numbers of slots by the rule above; none where the memory holds no state at all."""
    most = max_num_seqs * (1 + COPIES_PER_SEQUENCE * keeps_copies)
    share = memory_bytes // 2 if has_pages else memory_bytes
    num_slots = min(max(share // slot_bytes, min(1, memory_bytes // slot_bytes)), most)
    if not keeps_copies:
        return StateCounts(num_slots, 0)
    num_running = min(max_num_seqs, num_slots - num_slots // 4)
    return StateCounts(num_running, min(num_slots - num_running, COPIES_PER_SEQUENCE * num_running))
