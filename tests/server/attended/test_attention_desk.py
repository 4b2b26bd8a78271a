from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from cynosure.insight import AttentionReport, ReportSink, TokenShares
from cynosure.insight.judging.risk import SentenceRisk
from cynosure.observe.attention_metrics import AttentionMetrics
from cynosure.observe.metrics import ServingMetrics
from cynosure.server.attended import attention_desk
from cynosure.server.attended.attention_desk import MAX_WAITING, AttentionDesk, Dropping, TimedSinks
from cynosure.server.attended.drift_board import DriftBoard
from tests.insight.drift.test_drift_features import report
from tests.observe.test_metrics import values

SHARES = TokenShares((0.2, 0.3), 0.1, 0.4, 0.0, 2.0)


@dataclass
class Slow:
    """A sink that drops."""

    num_dropped: int = 0
    reports: list[AttentionReport] = field(default_factory=list)

    def told(self, report: AttentionReport) -> None:
        self.reports.append(report)
        self.num_dropped += 1


def found(metrics: AttentionMetrics) -> dict[str, float]:
    serving = ServingMetrics()
    serving.watch(metrics)
    return values(serving)


def test_a_report_is_counted_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    risks = (SentenceRisk(0, 1, 0.5), SentenceRisk(1, 2, 0.25), SentenceRisk(2, 3, None, "too long"))
    monkeypatch.setattr(attention_desk, "risks_of", lambda report: risks)
    desk = AttentionDesk(AttentionMetrics(), DriftBoard())
    assert isinstance(desk, ReportSink)
    desk.told(report(SHARES, None))
    desk.told(report(None))
    desk.settle()
    told = found(desk.metrics)
    assert told["cynosure_attn_answers_total{model_name=m}"] == 1
    assert told["cynosure_attn_tokens_total{model_name=m}"] == 1
    assert told["cynosure_attn_segment_mass_sum{model_name=m,role=document}"] == pytest.approx(0.3)
    assert told["cynosure_attn_focus_sum{model_name=m}"] == pytest.approx(0.4)
    assert told["cynosure_attn_risk_sum{model_name=m}"] == 0.5
    assert told["cynosure_attn_risk_unknown_total{model_name=m}"] == 1
    assert told["cynosure_attn_citations_total{model_name=m}"] == 0
    with desk.board.models() as models:
        assert models["m"].num_answers == 1


def test_one_report_that_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def risks_of(report: AttentionReport) -> tuple[SentenceRisk, ...]:
        if report.finish == "stop":
            raise ZeroDivisionError
        return ()

    monkeypatch.setattr(attention_desk, "risks_of", risks_of)
    desk = AttentionDesk(AttentionMetrics(), DriftBoard())
    failing = report(SHARES)
    desk.told(failing)
    desk.told(AttentionReport(**(vars(failing) | {"finish": "length"})))
    desk.settle()
    assert found(desk.metrics)["cynosure_attn_answers_total{model_name=m}"] == 1


def test_what_comes_too_fast_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def risks_of(report: AttentionReport) -> tuple[SentenceRisk, ...]:
        held.wait(10)
        return ()

    monkeypatch.setattr(attention_desk, "risks_of", risks_of)
    desk = AttentionDesk(AttentionMetrics(), DriftBoard())
    for _ in range(MAX_WAITING + 10):
        desk.told(report(SHARES))
    held.set()
    desk.settle()
    assert 8 <= desk.num_dropped <= 10


def test_sinks_are_timed() -> None:
    metrics, sink = AttentionMetrics(), Slow()
    assert isinstance(sink, Dropping)
    timed = TimedSinks((sink,), metrics)
    timed.told(report(SHARES))
    timed.told(report(SHARES))
    assert len(sink.reports) == 2
    told = found(metrics)
    assert told["cynosure_attn_capture_seconds_total{sink=Slow}"] > 0
    assert told["cynosure_attn_capture_drops_total{sink=Slow}"] == 2
