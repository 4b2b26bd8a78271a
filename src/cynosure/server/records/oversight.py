"""Say who watches what is served: the guard, the audit log, spans, drift, traces. Watches nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from cynosure.guard import Policy
from cynosure.insight.citing.auditor import AuditorSettings
from cynosure.observe.spans import SpanWriter
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.attended.sentinels import SentinelPrompt
from cynosure.server.attended.trace_keeper import TraceKeeper
from cynosure.server.records.audit_writer import AuditWriter


@dataclass(frozen=True)
class Oversight:
    """Who watches; `None` is nobody. Without more said, the guard does, with its default policy."""

    policy: Policy | None = field(default_factory=Policy)
    audit: AuditWriter | None = None
    spans: SpanWriter | None = None
    drift: DriftBoard | None = None
    sentinels: tuple[SentinelPrompt, ...] = ()
    auditor: AuditorSettings | None = None
    traces: TraceKeeper | None = None

    def close(self) -> None:
        """Write what waits to be written."""
        if self.traces is not None:
            self.traces.close()
        if self.audit is not None:
            self.audit.close()
        if self.spans is not None:
            self.spans.close()
