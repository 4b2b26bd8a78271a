from __future__ import annotations

import math

import pytest

from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    TokenShares,
)
from cynosure.insight.drift.drift_features import FEATURES, features_of, plain_focus, watched_digest

PARTS = PromptSegments.of(
    [PromptPart("user:0", "user", "user"), PromptPart("doc:1", "doc:1", "document")],
    [None, 0, 0, 1, None],
    [None] * 5,
)


def report(*shares: TokenShares | None) -> AttentionReport:
    reading = Reading(PARTS, HeadChoice(((0, 1),), "a test"), (2, 2))
    tokens = tuple(ReadToken(5, "x", at, shares=one) for at, one in enumerate(shares))
    return AttentionReport("r", 0, "", "m", "/", 0.0, reading, (1, 2, 3, 4, 5), tokens, "stop")


def test_a_row_has_a_value_for_each_feature() -> None:
    found = features_of(
        report(
            TokenShares((0.2, 0.3), 0.1, 0.4, 0.0, 2.0),
            TokenShares((0.4, 0.1), 0.1, 0.2, 0.2, 3.0),
            None,
        )
    )
    assert found is not None
    named = dict(zip([feature.name for feature in FEATURES], found.values, strict=True))
    assert found.num_prompt_tokens == 5
    expected = {
        "mass_user": 0.3,
        "mass_document": 0.2,
        "mass_template": 0.3,
        "mass_generated": 0.1,
        "sink_mass": 0.1,
        "mass_system": 0.0,
        "entropy": 2.5,
        "lookback": 0.8 / 0.9,
        "focus": 0.6,
        "documents": 1.0,
        "prompt_tokens": math.log2(5),
        "answer_tokens": math.log2(3),
    }
    assert {name: named[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_what_nobody_watched_has_no_row() -> None:
    assert features_of(report(None, None)) is None
    assert features_of(report()) is None


def test_focus_needs_somebody_to_be_distracted_by() -> None:
    assert plain_focus({"system": 0.1, "user": 0.1}) == 1
    assert plain_focus({"user": 0.1, "tool": 0.3}) == pytest.approx(0.25)


def test_a_choice_is_its_heads() -> None:
    choice = HeadChoice(((0, 1), (2, 3)), "one reason")
    assert watched_digest(choice) == watched_digest(HeadChoice(choice.heads, "another"))
    assert watched_digest(choice) != watched_digest(HeadChoice(((0, 1), (2, 2)), "one reason"))
