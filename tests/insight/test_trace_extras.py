"""A trace keeps the risk of an answer; where its sentences stand is kept from `L2` on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.insight import AttentionReport
from cynosure.insight.trace import trace_of
from cynosure.insight.trace_extras import trace_extras
from cynosure.insight.trace_level import TraceLevel
from tests.insight.test_risk import READING, TOKENS

REPORT = AttentionReport("r", 0, "", "m", "/", 0.0, READING, tuple(range(8)), tuple(TOKENS), "stop")
NAMES = {TraceLevel.L0: {"risk"}, TraceLevel.L1: {"risk"}, TraceLevel.L2: {"risk", "sentences"}}


@pytest.mark.parametrize("level", NAMES)
def test_what_a_level_holds(level: TraceLevel) -> None:
    trace = trace_of(REPORT, level, trace_extras())
    assert trace.extra.keys() == NAMES[level]


def test_sentences_by_their_places() -> None:
    extra = trace_of(REPORT, TraceLevel.L2, trace_extras()).extra
    sentences = extra["sentences"].value
    assert isinstance(sentences, list)
    assert [(one["start"], one["end"]) for one in sentences] == [(0, 10), (11, 18)]
    assert extra["risk"].value == max(one["risk"] for one in sentences)


def test_without_a_fitted_profile_nothing_is_kept() -> None:
    bare = replace(REPORT, reading=replace(READING, profile=None))
    assert trace_of(bare, TraceLevel.L2, trace_extras()).extra == {}
