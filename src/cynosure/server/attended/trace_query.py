"""Say which answers are wanted. Knows nothing of where they are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cynosure.insight.traces.trace import TraceSummary


@dataclass(frozen=True)
class TraceQuery:
    """Which answers are listed: the newest `limit` of a tenant (None: of all) and a model (None: any).

    They were begun at `since_s` or later, and before `before_s`, in seconds since 1970.
    """

    limit: int
    tenant: str | None = None
    model: str | None = None
    since_s: float = -math.inf
    before_s: float = math.inf

    def admits(self, one: TraceSummary) -> bool:
        """Whether an answer is one of them, however many there are."""
        return (
            self.tenant in (None, one.tenant)
            and self.model in (None, one.model)
            and self.since_s <= one.created_s < self.before_s
        )
