"""Tell everyone who keeps, counts or compares it what an answer attended to. Knows nothing of HTTP or text.

What answers wait for is the hand-over alone, which is timed by who takes; the desk's own numbers are made on
a thread. Where reports come faster than that, they are dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cynosure.insight import AttentionReport, ReportSink, lookback
from cynosure.insight.citing.citations import citations_of
from cynosure.insight.drift.drift_features import features_of, watched_digest
from cynosure.insight.judging.focus import focus_of
from cynosure.insight.judging.risk import largest, risks_of
from cynosure.observe.attention_metrics import AnswerNumbers, AttentionMetrics
from cynosure.server.attended.drift_board import DriftBoard

MAX_WAITING = 1024

_log = logging.getLogger(__name__)


@runtime_checkable
class Dropping(Protocol):
    """A sink that can be too slow."""

    @property
    def num_dropped(self) -> int:
        """Reports that it did not take, since the start."""
        ...


class AttentionDesk:
    """Numbers of every watched answer, for the metrics and the drift board, made on a thread of its own."""

    def __init__(self, metrics: AttentionMetrics, board: DriftBoard) -> None:
        """Begin with nothing; the thread starts with the first report."""
        self.metrics = metrics
        self.board = board
        self._waiting: queue.Queue[AttentionReport] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self.num_dropped = 0

    def told(self, report: AttentionReport) -> None:
        """Take a report; dropped where too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="attention-desk", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(report)
        except queue.Full:
            self.num_dropped += 1

    def settle(self) -> None:
        """Wait until all that was taken is counted."""
        self._waiting.join()

    def _work(self) -> None:
        while True:
            report = self._waiting.get()
            try:
                self._count(report)
            except Exception:
                # A number that fails must not end those of later answers.
                _log.exception("an answer's attention was not counted")
            finally:
                self._waiting.task_done()

    def _count(self, report: AttentionReport) -> None:
        mean, row = report.mean, features_of(report)
        if mean is None or row is None:
            return
        focus, risks = focus_of(report), risks_of(report)
        numbers = AnswerNumbers(
            num_tokens=sum(token.shares is not None for token in report.tokens),
            mass_by_role=report.mass_by_role,
            entropy_bits=mean.entropy_bits,
            lookback=lookback(mean),
            focus=None if focus is None else focus.value,
            risk=largest(risks),
            num_risk_unknown=sum(one.risk is None for one in risks),
            num_citations=len(citations_of(report)),
        )
        self.metrics.answered(report.model, numbers)
        self.board.add(report.model, watched_digest(report.reading.choice), row, time.time())


class TimedSinks:
    """Hands a report to each sink, and counts how long that took."""

    def __init__(self, sinks: Sequence[ReportSink], metrics: AttentionMetrics) -> None:
        """Stand before sinks."""
        self._sinks = tuple(sinks)
        self._metrics = metrics

    def told(self, report: AttentionReport) -> None:
        """Tell all."""
        for sink in self._sinks:
            begun_s = time.perf_counter()
            sink.told(report)
            spent_s = time.perf_counter() - begun_s
            num_drops = sink.num_dropped if isinstance(sink, Dropping) else 0
            self._metrics.took(type(sink).__name__, spent_s, num_drops)
