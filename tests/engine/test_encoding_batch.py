"""A pass is shared out so that it is full, bounded, and nobody waits for the whole of another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine.encoding_batch import share_out

QUEUES = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=6)


@given(QUEUES, st.integers(1, 100))
def test_the_first_goes_and_the_budget_holds(queues: list[list[int]], budget: int) -> None:
    counts = share_out(queues, budget)
    assert counts[0] >= 1
    assert all(0 <= count <= len(queue) for count, queue in zip(counts, queues, strict=True))
    used = sum(sum(queue[:count]) for queue, count in zip(queues, counts, strict=True))
    assert used <= budget or (used == queues[0][0] and sum(counts) == 1)


@given(QUEUES)
def test_a_budget_for_all_takes_all(queues: list[list[int]]) -> None:
    budget = sum(map(sum, queues))
    assert share_out(queues, budget) == [len(queue) for queue in queues]


def test_a_short_request_rides_along_with_a_long_one() -> None:
    assert share_out([[10] * 100, [5]], 40) == [3, 1]
    assert share_out([[10] * 100, [30]], 40) == [4, 0]


def test_edges() -> None:
    assert share_out([[7]], 7) == [1]
    assert share_out([[8]], 7) == [1]
    assert share_out([[8], [1]], 7) == [1, 0]
    assert share_out([[3, 3, 3]], 6) == [2]
