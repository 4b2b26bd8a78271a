"""A memory is shared out by the rule, at its edges too."""

from __future__ import annotations

import pytest

from cynosure.cache.state_counts import COPIES_PER_SEQUENCE, StateCounts, state_counts


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (99, StateCounts(0, 0)),
        (100, StateCounts(1, 0)),
        (399, StateCounts(3, 0)),
        (400, StateCounts(3, 1)),
        (800, StateCounts(6, 2)),
        (1200, StateCounts(8, 4)),
        (4000, StateCounts(8, 32)),
        (10**9, StateCounts(8, 32)),
    ],
)
def test_states_alone(memory: int, expected: StateCounts) -> None:
    assert state_counts(memory, 100, 8, has_pages=False, keeps_copies=True) == expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (99, StateCounts(0, 0)),
        (100, StateCounts(1, 0)),
        (299, StateCounts(1, 0)),
        (800, StateCounts(3, 1)),
        (10**9, StateCounts(8, 32)),
    ],
)
def test_half_is_left_to_pages(memory: int, expected: StateCounts) -> None:
    assert state_counts(memory, 100, 8, has_pages=True, keeps_copies=True) == expected


@pytest.mark.parametrize("memory", [100, 500, 10**9])
def test_without_copies_all_are_sequences(memory: int) -> None:
    counts = state_counts(memory, 100, 8, has_pages=False, keeps_copies=False)
    assert counts == StateCounts(min(8, memory // 100), 0)


def test_no_memory_is_promised_twice() -> None:
    for memory in range(100, 6000, 37):
        counts = state_counts(memory, 100, 8, has_pages=False, keeps_copies=True)
        assert counts.num_slots * 100 <= memory
        assert 1 <= counts.num_running <= 8
        assert counts.num_kept <= COPIES_PER_SEQUENCE * counts.num_running
