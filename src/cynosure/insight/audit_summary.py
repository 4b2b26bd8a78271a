"""Say how far the citations of a model have held. Counts nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class AuditSummary:
    """How far citations have held, of one model since its start.

    - `num`: audits; `held`: the share in which the cited part mattered more than another.
    - `mean_drop_nats`: how much less likely a sentence is without what it cites, on average.
    - `rank_correlation`: between scores of parts and what they took with them (Spearman); None until told.
    - `is_alarmed`: whether it is certain that fewer hold than should.
    """

    num: int
    held: float
    mean_drop_nats: float
    rank_correlation: float | None
    is_alarmed: bool


@runtime_checkable
class KnowsAudits(Protocol):
    """Knows how far the citations of each model have held."""

    def summary(self, model: str) -> AuditSummary | None:
        """Of one model; None where none was audited."""
        ...
