"""The risk of an answer's sentences: whose tokens count, when it is unknown, what a profile may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cynosure.core.errors import ProfileError
from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
)
from cynosure.insight.judging.risk import RiskModel, RiskReader, largest, risk_model_of, risks_of, tokens_in
from cynosure.insight.logistic import chance
from cynosure.insight.profile import HeadProfile
from tests.insight.risk_cases import SEGMENTS

RISK = RiskModel(
    heads=((0, 1), (1, 0)),
    weights=(-0.25, 0.75),
    retrieval=((1, 0),),
    features=("lookback", "lookback_peak", "generated", "hits", "hit_peak", "spread"),
    intercept=1.0,
    coefficients=(-4.0, 0.0, 1.0, -2.0, 0.0, 0.5),
    calibration=(2.0, 0.5),
    ranges=((-0.25, 0.75), (-0.25, 0.75), (-0.25, 0.75), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    num_tokens=(4, 10),
    num_documents=(2, 4),
    fitted_on={"data": "made up"},
)
CHOICE = HeadChoice(
    ((0, 1), (1, 0), (1, 1)),
    "a profile",
    (
        HeadGroup("induction", (0.0, 0.0, 1.0)),
        HeadGroup("retrieval", (0.0, 1.0, 0.0)),
        HeadGroup("risk", (-0.25, 0.75, 0.0)),
    ),
)
PROFILE = HeadProfile("f00d", "tiny", (2, 2), {}, {"risk": RISK.as_json()})
READING = Reading(SEGMENTS, CHOICE, (2, 2), profile=PROFILE)
#: Sink, template, two documents, the question, and what was generated.
LOOKS_AT_DOCUMENT = ((0.0,) * 6, (0.1, 0, 0.6, 0.1, 0.1, 0.1), (0.0, 0, 0.5, 0.0, 0.1, 0.1))
LOOKS_AWAY = ((0.0,) * 6, (0.9, 0, 0.0, 0.05, 0.05, 0.0), (0.6, 0, 0.0, 0.1, 0.0, 0.0))


def token(text: str, start: int, folds: tuple[tuple[float, ...], ...] = LOOKS_AT_DOCUMENT) -> ReadToken:
    return ReadToken(1, text, start, folds=tuple(tuple(map(float, fold)) for fold in folds))


ANSWER = "Yes it is. No way."
TOKENS = [
    token("Yes", 0),
    token(" it", 3, LOOKS_AWAY),
    token(" is.", 6),
    token(" No", 10, LOOKS_AWAY),
    token(" way.", 13, LOOKS_AWAY),
]


def told(tokens: list[ReadToken] = TOKENS, reading: Reading = READING, risk: RiskModel = RISK) -> list[Any]:
    return list(RiskReader(risk, reading).sentences(tokens, ANSWER))


def test_each_sentence_by_its_own_tokens() -> None:
    first, second = told()
    assert [ANSWER[one.start : one.end] for one in (first, second)] == ["Yes it is.", "No way."]
    # By hand: lookbacks .5, .1, .5 and what was generated .1, 0, .1; two hits of three; shares .4, .25 / 3.
    shares = np.array([1.2, 0.25]) / 1.45
    spread = -(shares * np.log2(shares)).sum()
    logit = 1 - 4 * 1.1 / 3 + 0.2 / 3 - 2 * 2 / 3 + 0.5 * spread
    assert first.risk == pytest.approx(chance(np.array([2 * logit + 0.5]))[0])
    assert second.risk == pytest.approx(chance(np.array([2 * (1 - 0.4) + 0.5]))[0])
    assert first.reason is second.reason is None
    assert largest([first, second]) == second.risk


def test_a_space_before_a_word_is_the_word_s() -> None:
    assert [one.text for one in tokens_in((11, 18), TOKENS)] == [" No", " way."]
    assert tokens_in((18, 30), TOKENS) == []


def test_sentences_stay_what_they_are_in_parts() -> None:
    assert [one.start for one in told(reading=READING)] == [0, 11]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_tokens": (9, 12)}, "length in tokens is 8"),
        ({"num_documents": (3, 4)}, "number of documents is 2"),
        ({"ranges": ((0.3, 0.75), *RISK.ranges[1:])}, "its lookback is 0.1"),
        ({"retrieval": ((0, 0),)}, "'retrieval'"),
        ({"heads": ((0, 1), (1, 1))}, "'risk'"),
    ],
)
def test_beyond_the_fit_it_is_unknown(change: dict[str, Any], reason: str) -> None:
    _, second = told(risk=RISK.model_copy(update=change))
    assert second.risk is None
    assert reason in second.reason
    assert largest([second]) is None


def test_without_documents_it_is_unknown() -> None:
    bare = PromptSegments.of([PromptPart("user:0", "user:0", "user")], [None, *[0] * 7], [None] * 8)
    sentences = told(reading=Reading(bare, CHOICE, (2, 2)))
    assert all(one.risk is None and "no part of the prompt is a document" in one.reason for one in sentences)


def test_a_sentence_with_tokens_that_were_not_watched_is_unknown() -> None:
    first, second = told([TOKENS[0], ReadToken(1, " it", 3), *TOKENS[2:]])
    assert first.risk is None
    assert "not all of its tokens were watched" in first.reason
    assert second.risk is not None


def test_other_heads_than_the_profile_s_tell_nothing() -> None:
    named = HeadChoice(((0, 0),), "the request names 1 heads")
    assert all(
        "leave them to the profile" in one.reason for one in told(reading=Reading(SEGMENTS, named, (2, 2)))
    )


def test_a_report_has_the_risks_of_its_profile() -> None:
    def report(profile: HeadProfile | None) -> AttentionReport:
        reading = Reading(SEGMENTS, CHOICE, (2, 2), profile=profile)
        return AttentionReport("r", 0, "", "m", "/", 0.0, reading, tuple(range(8)), tuple(TOKENS), "stop")

    assert list(risks_of(report(PROFILE))) == told()
    assert risks_of(report(None)) == ()
    assert risks_of(report(HeadProfile("f00d", "tiny", (2, 2), {}, {}))) == ()


def test_a_section_comes_back_as_it_was() -> None:
    assert risk_model_of(PROFILE) == RISK


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["lookback"]}, "features are not those"),
        ({"coefficients": [1.0]}, "coefficient and a range"),
        ({"heads": [], "weights": []}, "there is a head"),
        ({"weights": [0.1]}, "weight"),
        ({"intercept": "1"}, "intercept"),
        ({"intercept": float("nan")}, "intercept"),
        ({"more": 1}, "more"),
    ],
)
def test_a_section_that_no_fit_wrote_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        RiskModel.of_json({**RISK.as_json(), **change})
