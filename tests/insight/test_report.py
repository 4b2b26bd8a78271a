"""What is read off a report: averages over watched tokens, masses by role, lookback, folds by name."""

from __future__ import annotations

import pytest

from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    TokenShares,
    lookback,
)

PARTS = [
    PromptPart("system", "system", "system"),
    PromptPart("doc:1", "doc:1", "document"),
    PromptPart("doc:2", "doc:2", "document"),
]
SEGMENTS = PromptSegments.of(PARTS, [None, 0, 1, 2, None], [None] * 5)
READING = Reading(SEGMENTS, HeadChoice(((0, 0),), "one", (HeadGroup("a", (1.0,)),)), (2,))
FIRST = TokenShares((0.1, 0.2, 0.3), 0.2, 0.1, 0.1, 2.0)
SECOND = TokenShares((0.3, 0.2, 0.1), 0.2, 0.1, 0.1, 1.0)


def report(*tokens: ReadToken) -> AttentionReport:
    return AttentionReport("r", 0, "t", "m", "/", 0.0, READING, (1, 2, 3, 4, 5), tokens, "stop")


def test_tokens_that_were_not_watched_do_not_count() -> None:
    told = report(
        ReadToken(5, "a", 0, shares=FIRST, folds=((0.0, 0.1, 0.1, 0.2, 0.3, 0.1),)),
        ReadToken(6, "b", 1),
        ReadToken(7, "c", 2, shares=SECOND, folds=((0.0, 0.1, 0.3, 0.2, 0.1, 0.1),)),
    )
    assert told.text == "abc"
    assert told.mean is not None
    assert told.mean.masses == pytest.approx((0.2, 0.2, 0.2))
    assert told.mean.entropy_bits == pytest.approx(1.5)
    roles = told.mass_by_role
    assert roles == pytest.approx(
        {"system": 0.2, "document": 0.4, "template": 0.1, "sink": 0.2, "generated": 0.1}
    )
    assert [fold is None for fold in told.fold("a")] == [False, True, False]


def test_an_answer_of_nothing_watched_has_no_average() -> None:
    assert report(ReadToken(5, "a", 0)).mean is None
    assert report().mass_by_role == {}


def test_lookback_is_the_prompts_share_of_what_is_no_sink() -> None:
    assert lookback(FIRST) == pytest.approx(0.7 / 0.8)
    assert lookback(TokenShares((0.0, 0.0, 0.0), 1.0, 0.0, 0.0, 0.0)) == 1.0
