"""Say who watches what is served: the guard, the audit log, spans. Watches nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from cynosure.guard import Policy
from cynosure.observe.spans import SpanWriter
from cynosure.server.records.audit_writer import AuditWriter


@dataclass(frozen=True)
class Oversight:
    """Who watches; `None` is nobody. Without more said, the guard does, with its default policy."""

    policy: Policy | None = field(default_factory=Policy)
    audit: AuditWriter | None = None
    spans: SpanWriter | None = None

    def close(self) -> None:
        """Write what waits to be written."""
        if self.audit is not None:
            self.audit.close()
        if self.spans is not None:
            self.spans.close()
