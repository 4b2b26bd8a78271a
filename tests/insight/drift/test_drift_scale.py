from __future__ import annotations

import numpy as np
import pytest

from cynosure.insight.drift.drift_features import FEATURES, AnswerFeatures
from cynosure.insight.drift.drift_scale import DriftScale, stratum_lows
from tests.insight.drift_world import PLACE, answers

NUM = len(FEATURES)


def arrays(rows: list[AnswerFeatures]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one.values for one in rows]), np.array([one.num_prompt_tokens for one in rows])


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5] * 10, [0]),
        ([5] * 10 + [20] * 10, [0, 16]),
        ([5] * 3 + [20] * 10 + [70] * 3, [0]),
        ([5] * 3 + [20] * 10 + [70] * 10 + [300] * 2, [0, 64]),
        ([1], [0]),
    ],
)
def test_strata_are_powers_of_two_with_enough_in_each(lengths: list[int], expected: list[int]) -> None:
    assert stratum_lows(np.array(lengths), 10) == expected


def test_the_reference_itself_has_mean_0_and_spread_1() -> None:
    rows, lengths = arrays(answers(1, 2000))
    scores = DriftScale.fit(rows, lengths, 100).scores(rows, lengths)
    moves = scores.std(0) > 0
    # Roles that no prompt has, and a focus without tools, never move.
    assert moves.sum() == scores.shape[1] - 5
    assert np.abs(scores.mean(0)).max() < 0.05
    assert scores.std(0)[moves] == pytest.approx(1, abs=0.2)


def test_sums_of_shares_are_no_direction() -> None:
    rows, lengths = arrays(answers(1, 2000))
    scale = DriftScale.fit(rows, lengths, 100)
    # Eleven features vary; six shares sum to 1.
    assert len(scale.directions) == 10


def test_a_broken_tie_shows_where_no_single_feature_does() -> None:
    rows, lengths = arrays(answers(1, 2000))
    scale = DriftScale.fit(rows, lengths, 100)
    loose, loose_lengths = arrays(answers(2, 2000, tied=False))
    scores = scale.scores(loose, loose_lengths)
    assert np.abs(scores[:, PLACE["entropy"]].mean()) < 0.1
    assert scores[:, NUM:].std(0).max() > 2
    assert scores[:, -1].mean() > 1


def test_prompts_are_compared_with_those_of_like_length() -> None:
    rows, lengths = arrays(answers(1, 4000))
    scale = DriftScale.fit(rows, lengths, 100)
    assert len(scale.strata) == 2
    is_long = lengths >= 128
    place = PLACE["mass_document"]
    assert rows[is_long, place].mean() - rows[~is_long, place].mean() > rows[:, place].std() / 2
    for chosen in (is_long, ~is_long):
        assert abs(scale.scores(rows[chosen], lengths[chosen])[:, place].mean()) < 0.05
