"""Spearman's correlation: its ends, ties, and what is not defined."""

from __future__ import annotations

import random

import pytest

from cynosure.insight.rank_correlation import rank_correlation


def test_both_ends() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 1000.0]) == pytest.approx(1)
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_a_known_value() -> None:
    """Without ties: 1 - 6 sum(d^2) / (n (n^2 - 1)), here with d = 1, 1, 1, 1, 0."""
    found = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0])
    assert found == pytest.approx(1 - 6 * 4 / (5 * 24))


def test_ties_share_their_ranks() -> None:
    """Ranks 1.5, 1.5, 3 against 1, 2, 3: by hand, 1.5 / sqrt(1.5 * 2)."""
    assert rank_correlation([4.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == pytest.approx(1.5 / 3**0.5)


def test_what_has_nothing_to_do_with_each_other() -> None:
    dice = random.Random(1)
    found = rank_correlation([dice.random() for _ in range(2000)], [dice.random() for _ in range(2000)])
    assert found is not None
    assert abs(found) < 0.08


@pytest.mark.parametrize(("left", "right"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_what_is_not_defined(left: list[float], right: list[float]) -> None:
    assert rank_correlation(left, right) is None
