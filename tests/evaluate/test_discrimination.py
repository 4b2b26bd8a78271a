"""Areas under curves and errors of chances equal their plain definitions, ties included."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.core.errors import InputError
from cynosure.evaluate.discrimination import auroc, calibration_error


def plain_auroc(scores: list[float], is_positive: list[bool]) -> float:
    """Every pair of a positive and a negative case."""
    above = [one for one, positive in zip(scores, is_positive, strict=True) if positive]
    below = [one for one, positive in zip(scores, is_positive, strict=True) if not positive]
    return sum((a > b) + (a == b) / 2 for a in above for b in below) / (len(above) * len(below))


@pytest.mark.parametrize("num_values", [2, 5, 1000])
def test_the_area_is_the_share_of_pairs(num_values: int) -> None:
    dice = np.random.default_rng(num_values)
    positive = (dice.random(60) < 0.3).tolist()
    scores = (dice.integers(num_values, size=60) + 2.0 * np.array(positive)).tolist()
    assert auroc(scores, positive) == pytest.approx(plain_auroc(scores, positive))


def test_the_area_at_its_ends() -> None:
    assert auroc([1.0, 2.0, 3.0, 4.0], [False, False, True, True]) == 1
    assert auroc([4.0, 3.0, 2.0, 1.0], [False, False, True, True]) == 0
    assert auroc([1.0] * 4, [False, False, True, True]) == 0.5


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_cases_of_one_kind_are_refused(positive: list[bool]) -> None:
    with pytest.raises(InputError, match="both kinds"):
        auroc([0.1, 0.2], positive)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        auroc([0.1, float("nan")], [True, False])


def test_chances_that_hold_have_no_error() -> None:
    chances = [0.25] * 4 + [0.75] * 4
    came = [True, False, False, False, True, True, True, False]
    assert calibration_error(chances, came) == 0
    assert calibration_error(chances, [not one for one in came]) == pytest.approx(0.5)


def test_the_error_is_that_of_classes_of_like_size() -> None:
    dice = np.random.default_rng(0)
    chances = dice.random(1000)
    came = dice.random(1000) < chances**2
    order = np.argsort(chances)
    plain = sum(
        abs(chances[part].mean() - came[part].mean()) * len(part) / 1000 for part in np.array_split(order, 10)
    )
    assert calibration_error(chances.tolist(), came.tolist()) == pytest.approx(plain, abs=0.01)


@pytest.mark.parametrize("chances", [[], [0.5, 1.2], [-0.1, 0.5]])
def test_what_is_no_chance_is_refused(chances: list[float]) -> None:
    with pytest.raises(InputError, match="chances"):
        calibration_error(chances, [True, False][: len(chances)])
