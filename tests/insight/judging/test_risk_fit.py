"""A fit finds the head that tells, gives chances that hold, and refuses what it can't learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cynosure.core.errors import InputError
from cynosure.evaluate.discrimination import auroc, calibration_error
from cynosure.insight import PromptPart, PromptSegments
from cynosure.insight.judging.risk import RiskModel
from cynosure.insight.judging.risk_fit import RiskExample, Seen, fit_risk
from cynosure.insight.judging.sentence_features import FITTED, RETRIEVED
from cynosure.insight.probing import ProbedModel
from tests.insight.risk_cases import NUM_PROMPT, TELLING, RuledModel, examples

MODEL = RuledModel()


def features_of(risk: RiskModel, example: RiskExample) -> np.ndarray:
    """What the fit's weights make of one answer."""
    return Seen.of(MODEL, example).features(risk, [(layer, head) for layer in range(2) for head in range(2)])


def test_the_made_up_model_is_one() -> None:
    assert isinstance(MODEL, ProbedModel)


@pytest.mark.parametrize("retrieval", [(), (TELLING,)])
def test_new_answers_are_told_apart_and_chances_hold(retrieval: tuple[tuple[int, int], ...]) -> None:
    risk = fit_risk(MODEL, examples(360), {"data": "made up"}, retrieval=retrieval)
    assert max(zip(risk.weights, risk.heads, strict=True))[1] == TELLING
    assert risk.features == (FITTED + RETRIEVED if retrieval else FITTED)
    assert risk.fitted_on == {"data": "made up", "num_grounded": 180, "num_ungrounded": 180}
    new = examples(240, seed=1)
    chances = [risk.risk_of(features_of(risk, one)) for one in new]
    is_made_up = [not one.is_grounded for one in new]
    assert auroc(chances, is_made_up) > 0.85
    assert calibration_error(chances, is_made_up, num_bins=5) < 0.1
    # The control: labels that mean nothing leave every chance near a half.
    dice = np.random.default_rng(0)
    shuffled = [replace(one, is_grounded=bool(dice.random() < 0.5)) for one in examples(240)]
    lost = fit_risk(MODEL, shuffled, {}, retrieval=retrieval)
    assert np.std([lost.risk_of(features_of(lost, one)) for one in new]) < np.std(chances) / 2


def test_a_limit_on_heads_is_kept() -> None:
    risk = fit_risk(MODEL, examples(120), {}, num_heads=1)
    assert risk.heads == (TELLING,)
    assert risk.weights == (1.0,)


def test_what_was_seen_is_what_a_probe_tells() -> None:
    example = examples(1)[0]
    seen = Seen.of(MODEL, example)
    # No token is the template's, and what was generated is last.
    assert seen.shares.shape == (3, 4, 6)
    assert not seen.shares[:, :, 1].any()
    np.testing.assert_allclose(seen.shares.sum(axis=-1), 1, atol=1e-5)
    wanted = MODEL.shares(example.token_ids, range(7, 10), [0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4])
    np.testing.assert_array_equal(seen.shares[:, :, [0, 2, 3, 4, 5]], wanted)
    np.testing.assert_allclose(seen.lookback, wanted[..., 1:3].sum(-1).mean(0), rtol=1e-6)


@pytest.mark.parametrize("count", [0, 40, 98])
def test_too_few_answers_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="Label more"):
        fit_risk(MODEL, examples(count), {})


def test_an_answer_without_documents_is_refused() -> None:
    bare = PromptSegments.of([PromptPart("user:0", "user:0", "user")], [0] * NUM_PROMPT, [None] * NUM_PROMPT)
    with pytest.raises(InputError, match="no documents"):
        fit_risk(MODEL, [replace(one, segments=bare) for one in examples(200)], {})
