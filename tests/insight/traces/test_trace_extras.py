"""A trace keeps the risk of an answer; where its sentences stand is kept from `L2` on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.insight import AttentionReport
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import trace_of
from cynosure.insight.traces.trace_extras import trace_extras
from tests.insight.citing import test_citations
from tests.insight.judging.test_risk import READING, TOKENS

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


def test_citations_name_parts_by_their_place_among_the_callers() -> None:
    read = AttentionReport(
        "r",
        0,
        "",
        "m",
        "/",
        0.0,
        test_citations.READING,
        tuple(range(7)),
        tuple(test_citations.ANSWER),
        "stop",
    )
    told = trace_of(read, TraceLevel.L3, trace_extras()).extra["citations"].value
    assert isinstance(told, list)
    # By its place it is 1; among all parts, sink and template first, it is 3.
    assert [(one["start"], one["end"], one["segment"]) for one in told] == [(0, 8, 1)]
    assert all(0.5 <= one["score"] <= 1 for one in told)
    assert "citations" not in trace_of(read, TraceLevel.L1, trace_extras()).extra
    sentences = trace_of(read, TraceLevel.L2, trace_extras()).extra["sentences"].value
    assert isinstance(sentences, list)
    assert [(one["risk"], one["reason"]) for one in sentences] == [(None, None)] * 3
