from __future__ import annotations

import numpy as np
import pytest

from cynosure.insight.drift.drift_rule import SLACK, Cusum, course
from tests.insight.drift.test_drift_scale import arrays
from tests.insight.drift_world import answers, frozen


def test_what_moved_by_itself_is_told_by_its_name() -> None:
    cusum = Cusum(3, 4.0)
    for _ in range(4):
        cusum.add(np.array([0.25, -1.0, 1.5]))
    assert cusum.worst(0) == (2, 5.0)
    assert cusum.worst(2) == (1, -3.0)
    assert cusum.worst(1) == (2, 5.0)


def test_all_at_once_is_one_by_one() -> None:
    scores = np.random.default_rng(1).normal(0.1, 1, (500, 3))
    plain, largest = np.zeros((2, 3)), []
    for row in scores:
        plain = np.maximum(0, plain + np.stack([row, -row]) - SLACK)
        largest.append(plain.max())
    np.testing.assert_allclose(course(scores), largest, atol=1e-9)
    cusum = Cusum(3, 1e9)
    for row in scores:
        cusum.add(row)
    assert cusum.sums.max() == pytest.approx(largest[-1])


def test_a_sum_is_at_the_limit_when_its_chart_has_shifted() -> None:
    cusum = Cusum(2, 5.0)
    flags = [cusum.add(np.array([0.0, -1.25])) for _ in range(6)]
    assert flags == [False] * 4 + [True] * 2
    assert cusum.worst(2) == (1, -6.0)
    for _ in range(100):
        cusum.add(np.array([0.0, -1.25]))
    assert cusum.worst(2) == (1, -7.5)
    assert not cusum.is_calm
    while not cusum.is_calm:
        cusum.add(np.zeros(2))


def test_stationary_answers_give_hardly_any_alarm() -> None:
    reference = frozen()
    peaks = [course(reference.scale.scores(*arrays(answers(seed, 10_000)))).max() for seed in (10, 11)]
    assert max(peaks) < reference.limit


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({"shifts": {"entropy": 0.25}}, 100),
        ({"shifts": {"answer_tokens": -0.7}}, 100),
        ({"has_documents": False}, 20),
        ({"tied": False}, 60),
    ],
)
def test_a_shift_is_found_soon(options: dict[str, object], within: int) -> None:
    reference = frozen()
    for seed in range(20, 25):
        rows, lengths = arrays(answers(seed, within, **options))  # type: ignore[arg-type]
        assert course(reference.scale.scores(rows, lengths)).max() >= reference.limit
