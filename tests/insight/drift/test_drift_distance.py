from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cynosure.insight.drift.drift_distance import psi, quantiles_of, ranks, wasserstein

DICE = np.random.default_rng(3)


def test_wasserstein_is_scipys_up_to_what_quantiles_keep() -> None:
    first, second = DICE.normal(0, 1, 4000), DICE.normal(0.7, 1.3, 3000)
    exact = stats.wasserstein_distance(first, second)
    assert wasserstein(second, quantiles_of(first)) == pytest.approx(exact, rel=0.05)
    assert wasserstein(first, quantiles_of(first)) == pytest.approx(0, abs=1e-12)
    assert wasserstein(first + 2, quantiles_of(first)) == pytest.approx(2)


def test_psi_of_normals_is_what_their_deciles_give() -> None:
    first, second = DICE.normal(0, 1, 20_000), DICE.normal(0.5, 1, 20_000)
    edges = stats.norm.ppf(np.linspace(0, 1, 11))
    shares = np.diff(stats.norm.cdf(edges, 0.5))
    exact = float(((shares - 0.1) * np.log(shares / 0.1)).sum())
    assert psi(second, quantiles_of(first)) == pytest.approx(exact, rel=0.1)
    assert psi(first, quantiles_of(first)) < 0.01


@pytest.mark.parametrize("constant", [0.0, 0.25])
def test_a_value_that_never_changed_and_does_now_is_far(constant: float) -> None:
    kept = quantiles_of(np.full(500, constant))
    assert psi(np.full(200, constant), kept) < 0.02
    assert psi(np.full(200, constant + 0.1), kept) > 1
    assert psi(np.full(200, constant - 0.1), kept) > 1


def test_a_value_that_is_often_the_same_has_a_bin_of_its_own() -> None:
    mixed = np.where(DICE.random(4000) < 0.6, 0.0, DICE.random(4000))
    kept = quantiles_of(mixed)
    assert psi(mixed[:500], kept) < 0.1
    # As many values lie at or below 0.001, and none is 0.
    assert psi(np.where(mixed == 0, 0.001, mixed), kept) > 0.5


def test_ranks_are_places_among_quantiles() -> None:
    values = DICE.normal(0, 1, 2000)
    found = ranks(values, quantiles_of(values))
    assert np.abs(found - (stats.rankdata(values) - 1) / 1999).max() < 0.02
    assert ranks(np.array([-9.0, 9.0]), quantiles_of(values)).tolist() == [0.0, 1.0]
    ties = quantiles_of(np.concatenate([np.zeros(500), np.linspace(1, 2, 500)]))
    assert ranks(np.array([0.0]), ties)[0] == pytest.approx(0.25, abs=0.02)
    assert ranks(np.array([0.0]), quantiles_of(np.zeros(9))).tolist() == [0.5]
