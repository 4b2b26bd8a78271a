"""Weights travel in a profile as they were fitted, and what is no fit's is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cynosure.core.errors import ProfileError
from cynosure.insight.citing.citation_weights import CitationWeights, shares_of_scores

WEIGHTS = CitationWeights(((0, 1), (2, 3)), (1.5, -0.25), -3.0, 2.0, 1.0, 0.6, 1.0, "made-up answers")


def test_a_section_is_read_as_it_was_written() -> None:
    assert CitationWeights.of_json(json.loads(json.dumps(WEIGHTS.as_json()))) == WEIGHTS


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": [1.0, float("inf")]},
        {"heads": []},
        {"heads": 3},
        {"min_score": 1.5},
        {"intercept": "much"},
        {"of_score": True},
    ],
)
def test_what_is_no_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProfileError, match="Make the profile again"):
        CitationWeights.of_json(WEIGHTS.as_json() | change)


def test_a_missing_number_is_named() -> None:
    section = WEIGHTS.as_json()
    del section["of_share"]
    with pytest.raises(ProfileError, match="of_share"):
        CitationWeights.of_json(section)


def test_a_higher_score_is_a_higher_chance() -> None:
    chances = WEIGHTS.chances(np.array([0.0, 1.0, 2.0]))
    assert list(chances) == sorted(chances)
    # By hand: 1 / (1 + exp(3 - 2 * 2 - 2 / 3)).
    assert chances[2] == pytest.approx(1 / (1 + np.exp(3 - 4 - 2 / 3)))


def test_scores_below_zero_have_no_share() -> None:
    np.testing.assert_allclose(shares_of_scores(np.array([-1.0, 1.0, 3.0])), [0, 0.25, 0.75])
    np.testing.assert_allclose(shares_of_scores(np.array([-1.0, 0.0])), [-0.0, 0])
