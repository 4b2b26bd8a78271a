"""Every text is read once, like with like, in passes of bounded size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cynosure.models.token_passes import passes


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_shares_out_everything_once(lengths: list[int], budget: int) -> None:
    groups = passes(lengths, budget)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        # A text longer than the budget has a pass to itself.
        assert sum(lengths[place] for place in group) <= max(budget, lengths[group[0]])
    flat = [lengths[place] for group in groups for place in group]
    assert flat == sorted(lengths, reverse=True)


def test_fills_passes() -> None:
    assert passes([5, 1, 4, 2], 6) == [[0], [2, 3], [1]]
    assert passes([2, 2, 2], 6) == [[0, 1, 2]]
    assert passes([], 6) == []
