"""Keep traces of answers on a thread beside what serves, and find them again. Knows nothing of HTTP.

What was told is in memory first, and is found there; with a folder it is written some seconds later. A crash
takes what was not written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cynosure.insight import AttentionReport
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import Trace, TraceExtra, TraceSummary, lowered, trace_of
from cynosure.insight.traces.trace_extras import trace_extras
from cynosure.insight.traces.trace_view import hidden
from cynosure.server.attended.trace_folder import Match, TraceFolder, by_day
from cynosure.server.attended.trace_query import TraceQuery

#: Seconds between looks at what is too old, and between looks at the clock where nothing is to be done.
SWEEP_EVERY_S, IDLE_S = 600.0, 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeeperSettings:
    """How much is kept, and of what.

    - `level`: the most that is kept of an answer; a request may ask for less.
    - `max_kept`, `max_bytes`: answers in memory; the oldest give way.
    - `flush_s`, `flush_bytes`: when what is in memory is written, where there is a folder.
    - `text_hours`: how long texts stay; after that a trace is of level L2.
    - `max_waiting`: answers that wait to be looked at; more are dropped, and counted.
    """

    level: TraceLevel = TraceLevel.L1
    max_kept: int = 1024
    max_bytes: int = 64 * 2**20
    flush_s: float = 10.0
    flush_bytes: int = 4 * 2**20
    text_hours: float = 24.0
    max_waiting: int = 4096


def in_memory(*, is_audited: bool) -> KeeperSettings:
    """What is kept where nothing else is said: the caller's own texts too, where reads are audited."""
    return KeeperSettings(level=TraceLevel.L3 if is_audited else TraceLevel.L2)


@dataclass(frozen=True)
class KeeperCounts:
    """Answers that were kept, dropped for want of room, and lost to a failure; seconds spent on all."""

    kept: int = 0
    dropped: int = 0
    failed: int = 0
    seconds: float = 0.0


class TraceKeeper:
    """A `ReportSink` that keeps what it is told.

    Without a folder it keeps answers whose requests asked for attention, in memory alone.
    """

    def __init__(
        self,
        settings: KeeperSettings | None = None,
        folder: TraceFolder | None = None,
        extras: Sequence[TraceExtra] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep nothing yet; the folder is the keeper's from here on. What comes first starts its thread."""
        self.settings = settings or KeeperSettings()
        self._folder = folder
        self._extras = trace_extras() if extras is None else extras
        self._clock = clock
        # Appended to without the lock, so that whoever tells waits for nobody.
        self._waiting: deque[tuple[AttentionReport, TraceLevel]] = deque()
        self._kept: deque[Trace] = deque()
        self._num_bytes = 0
        self._counts = KeeperCounts()
        self._num_turned_away = 0
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._is_closed = False
        self._flushed_s = self._swept_s = time.monotonic()
        self._thread: threading.Thread | None = None
        if folder is not None:
            folder.sweep(clock())

    @property
    def counts(self) -> KeeperCounts:
        """What became of what was told."""
        with self._lock:
            return replace(self._counts, dropped=self._counts.dropped + self._num_turned_away)

    @property
    def watches_all(self) -> bool:
        """Whether answers are kept that nobody asked to be told of."""
        return self._folder is not None

    def told(self, report: AttentionReport) -> None:
        """Take it; what is kept of it is found from now on."""
        asked = report.reading.trace
        level = self.settings.level if asked is None else min(asked, self.settings.level)
        if level is TraceLevel.OFF or not (self.watches_all or report.reading.is_asked):
            return
        if len(self._waiting) >= self.settings.max_waiting:
            self._num_turned_away += 1
            return
        self._waiting.append((report, level))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
            self._thread.start()
        self._wake.set()

    def find(self, request_id: str, tenant: str, *, is_admin: bool = False) -> list[Trace]:
        """The answers of a request of a tenant, in their order; an admin finds others', hidden."""
        own = self._latest(request_id, lambda one: one.tenant == tenant)
        if own or not is_admin:
            return own
        others = self._latest(request_id, lambda one: True)
        newest = max(others, key=lambda trace: trace.summary.created_s, default=None)
        return [
            hidden(trace)
            for trace in others
            if newest is not None and trace.summary.tenant == newest.summary.tenant
        ]

    def newest(self, query: TraceQuery) -> list[TraceSummary]:
        """The newest answers that a query admits."""
        with self._lock:
            self._drain()
            query = replace(query, since_s=max(query.since_s, self._oldest_s))
            found = [trace.summary for trace in self._kept if query.admits(trace.summary)]
            if self._folder is not None:
                found += self._folder.newest(query)
        fresh = (self._fresh_summary(one) for one in found)
        return sorted(fresh, key=lambda one: -one.created_s)[: query.limit]

    def erase(self, tenant: str | None, request_id: str | None = None) -> int:
        """Keep nothing any more of a request, or of all, of a tenant (None: of any).

        Returns:
            How many answers were kept of it.

        Raises:
            OSError: a file can't be written anew; what it holds is still there.
        """

        def match(one: TraceSummary) -> bool:
            return tenant in (None, one.tenant) and request_id in (None, one.request_id)

        with self._lock:
            self._drain()
            gone = [trace for trace in self._kept if match(trace.summary)]
            self._kept = deque(trace for trace in self._kept if not match(trace.summary))
            self._num_bytes -= sum(trace.num_bytes for trace in gone)
            return len(gone) + (0 if self._folder is None else self._folder.erase(match))

    def settle(self) -> None:
        """Return once all that was told is looked at."""
        with self._lock:
            self._drain()

    def flush(self) -> None:
        """Write what is in memory, where there is a folder."""
        with self._lock:
            self._drain()
            self._flush()

    def close(self) -> None:
        """Write what is in memory, and end."""
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._drain()
            self._flush()
            if self._folder is not None:
                self._folder.close()

    def _run(self) -> None:
        while not self._is_closed:
            is_flush_due = self._folder is not None and self._kept
            self._wake.wait(min(self.settings.flush_s, 1.0) if is_flush_due else IDLE_S)
            self._wake.clear()
            with self._lock:
                self._drain()
                now = time.monotonic()
                is_due = now - self._flushed_s >= self.settings.flush_s
                if self._kept and (is_due or self._num_bytes >= self.settings.flush_bytes):
                    self._flush()
                if now - self._swept_s >= SWEEP_EVERY_S:
                    self._sweep(now)

    def _drain(self) -> None:
        """Look at what waits."""
        begun = time.perf_counter()
        while self._waiting:
            report, level = self._waiting.popleft()
            try:
                self._keep(trace_of(report, level, self._extras))
            except Exception as fault:
                # Its text may hold a caller's; the name of its class does not.
                _log.error("an answer could not be traced: %s", type(fault).__name__)
                self._count(failed=1)
        self._count(seconds=time.perf_counter() - begun)

    def _keep(self, trace: Trace) -> None:
        self._kept.append(trace)
        self._num_bytes += trace.num_bytes
        self._count(kept=1)
        while len(self._kept) > self.settings.max_kept or self._num_bytes > self.settings.max_bytes:
            if self._folder is not None and self._flush():
                return
            self._num_bytes -= self._kept.popleft().num_bytes
            self._count(dropped=int(self._folder is not None))

    def _flush(self) -> bool:
        """Write all that is in memory; whether it is written."""
        self._flushed_s = time.monotonic()
        if self._folder is None or not self._kept:
            return False
        try:
            for day, traces in by_day(self._kept):
                self._folder.write(day, traces)
                written = set(map(id, traces))
                self._kept = deque(trace for trace in self._kept if id(trace) not in written)
                self._num_bytes = sum(trace.num_bytes for trace in self._kept)
                self._folder.join(day)
        except OSError as fault:
            _log.error("traces can't be written, and wait in memory: %s", _said(fault))
            return False
        return True

    def _sweep(self, now: float) -> None:
        self._swept_s = now
        self._kept = deque(map(self._fresh, self._kept))
        self._num_bytes = sum(trace.num_bytes for trace in self._kept)
        if self._folder is None:
            return
        try:
            self._folder.sweep(self._clock())
        except OSError as fault:
            _log.error("old traces can't be removed: %s", _said(fault))

    def _latest(self, request_id: str, match: Match) -> list[Trace]:
        """Of each answer of a request the latest that matches: clients may send one id twice."""

        def is_kept(one: TraceSummary) -> bool:
            return one.created_s >= self._oldest_s and match(one)

        with self._lock:
            self._drain()
            found = [
                trace
                for trace in self._kept
                if trace.summary.request_id == request_id and is_kept(trace.summary)
            ]
            if self._folder is not None:
                found += self._folder.find(is_kept, request_id)
        by_index: dict[int, Trace] = {}
        for trace in sorted(found, key=lambda trace: trace.summary.created_s):
            by_index[trace.summary.index] = trace
        return [self._fresh(by_index[index]) for index in sorted(by_index)]

    @property
    def _oldest_s(self) -> float:
        return -float("inf") if self._folder is None else self._clock() - self._folder.limits.days * 86_400

    def _fresh(self, trace: Trace) -> Trace:
        """A trace without its texts once their time is over."""
        return lowered(trace, TraceLevel.L2) if self._is_over(trace.summary) else trace

    def _fresh_summary(self, one: TraceSummary) -> TraceSummary:
        return replace(one, level=TraceLevel.L2) if self._is_over(one) else one

    def _is_over(self, one: TraceSummary) -> bool:
        return one.level is TraceLevel.L3 and one.created_s <= self._clock() - self.settings.text_hours * 3600

    def _count(self, *, kept: int = 0, dropped: int = 0, failed: int = 0, seconds: float = 0.0) -> None:
        counts = self._counts
        self._counts = KeeperCounts(
            counts.kept + kept, counts.dropped + dropped, counts.failed + failed, counts.seconds + seconds
        )


def _said(fault: OSError) -> str:
    """Why, without a path that may be anything."""
    return fault.strerror or type(fault).__name__
