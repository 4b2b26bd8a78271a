"""Traces come back from their table as they were, at each level and whatever was watched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cynosure.core.errors import MissingPackage
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import ExtraValue, Trace, TraceExtra, trace_of
from cynosure.server.attended import trace_table
from cynosure.server.attended.trace_table import answers_of, summaries_in, tokens_of, traces_in
from tests.insight.trace_cases import CHOICE, half_watched, report

LEVELS = [TraceLevel.L0, TraceLevel.L1, TraceLevel.L2, TraceLevel.L3]
RISK = TraceExtra("risk", TraceLevel.L0, lambda one: {"sentences": [0.5, None]})


def bare() -> Trace:
    """Of a choice without groups."""
    made = report("bare")
    reading = replace(made.reading, choice=replace(CHOICE, groups=()))
    tokens = tuple(replace(token, folds=()) for token in made.tokens)
    return trace_of(replace(made, reading=reading, tokens=tokens), TraceLevel.L3)


def cases(level: TraceLevel) -> list[Trace]:
    return [
        trace_of(report("whole"), level, (RISK,)),
        trace_of(report("half", tokens=half_watched(7)), level),
        trace_of(report("unwatched", tokens=half_watched(2)[1:], finish=None), level),
        trace_of(report("empty", tokens=(), prompt_ids=()), level),
        trace_of(report("one", tokens=half_watched(1), index=3, tenant=""), level),
    ]


def assert_same(found: Trace, expected: Trace) -> None:
    assert found.ids == expected.ids
    assert found.texts == expected.texts
    assert found.extra == expected.extra
    assert found.summary == expected.summary
    assert (found.shares is None) == (expected.shares is None)
    if found.shares is not None and expected.shares is not None:
        for name in ("parts", "heads", "num_heads", "groups", "watched"):
            assert vars(found.shares)[name] == vars(expected.shares)[name]
        # Bit by bit: nothing is rounded on the way.
        np.testing.assert_array_equal(found.shares.masses, expected.shares.masses)
        np.testing.assert_array_equal(found.shares.entropy_bits, expected.shares.entropy_bits)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_written_is_read(level: TraceLevel) -> None:
    traces = cases(level)
    answers, tokens = answers_of(traces), tokens_of(traces)
    assert answers.num_rows == len(traces)
    assert tokens.num_rows == sum(answers["num_rows"].to_pylist())
    found = traces_in(answers, tokens)
    for one, expected in zip(found, traces, strict=True):
        assert_same(one, expected)
    assert [one.request_id for one in summaries_in(answers)] == [one.summary.request_id for one in traces]


def test_no_groups_and_extras_of_every_level() -> None:
    trace = replace(bare(), extra={"citations": ExtraValue(TraceLevel.L3, [1, "two", {"three": None}])})
    (found,) = traces_in(answers_of([trace]), tokens_of([trace]))
    assert_same(found, trace)


def test_a_row_a_token_and_group() -> None:
    """What a reader with a tool of his own sees."""
    trace = trace_of(report(tokens=half_watched(3)), TraceLevel.L1)
    rows = tokens_of([trace]).to_pylist()
    assert [(row["token"], row["group"]) for row in rows] == [
        (0, "all"), (2, "all"), (0, "retrieval"), (2, "retrieval"), (0, "odd"), (2, "odd"),
    ]  # fmt: skip
    for row in rows[:2]:
        assert sum(row["masses"]) + row["sink"] + row["template"] + row["generated"] == pytest.approx(1)
        assert (row["request_id"], row["tenant"], row["model"]) == ("r-1", "tenant-a", "tiny")
        assert row["token_id"] is row["text"] is row["start"] is row["logprob"] is None
    (answer,) = answers_of([trace]).to_pylist()
    assert answer["token"] is None
    assert answer["masses"] == pytest.approx(np.mean([row["masses"] for row in rows[:2]], axis=0), rel=1e-6)


def test_columns_of_a_higher_level_are_null() -> None:
    (l1,) = answers_of([trace_of(report(), TraceLevel.L1)]).to_pylist()
    (l0,) = answers_of([trace_of(report(), TraceLevel.L0)]).to_pylist()
    assert l1["names"] is l1["places"] is l1["prompt_ids"] is None
    assert l0["parts"] is l0["heads"] is l0["masses"] is None
    assert tokens_of([trace_of(report(), TraceLevel.L0)]).num_rows == 0


def test_no_tables_where_nothing_is_kept() -> None:
    assert tokens_of([]).num_rows == answers_of([]).num_rows == 0
    assert traces_in(answers_of([]), tokens_of([])) == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(trace_table.importlib, "import_module", absent)
    with pytest.raises(MissingPackage, match=r"cynosure\[traces\]"):
        trace_table.arrow()
