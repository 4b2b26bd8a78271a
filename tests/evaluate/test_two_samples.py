"""Samples of one distribution are not told apart; shifted ones are."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.evaluate.two_samples import p_value, share_below

DICE = np.random.default_rng(3)


def test_a_shift_is_seen_and_none_is_not() -> None:
    first, second = DICE.lognormal(size=40), DICE.lognormal(size=40)
    assert p_value(first.tolist(), second.tolist()) > 0.01
    assert p_value(first.tolist(), (second + 2).tolist()) < 0.001


def test_it_errs_as_often_as_it_says() -> None:
    """Under one distribution a p-value below 0.1 comes in a tenth of all cases."""
    found = [p_value(DICE.random(12).tolist(), DICE.random(12).tolist(), 500, seed) for seed in range(200)]
    assert 0.03 < np.mean(np.less(found, 0.1)) < 0.2


def test_the_exact_value_of_a_small_case() -> None:
    """Of the 6 ways to label two and two values, 2 are as extreme as complete separation."""
    assert p_value([1.0, 2.0], [3.0, 4.0]) == pytest.approx(1 / 3, abs=0.02)


def test_ties_and_equal_samples() -> None:
    assert p_value([1.0] * 5, [1.0] * 5) == 1.0
    assert share_below([1.0] * 5, [1.0] * 5) == 0.5
    assert share_below([1.0, 2.0], [3.0]) == 1.0
    assert share_below([3.0], [1.0, 3.0]) == 0.25
