"""Keep how far the citations of one model have held. Knows nothing of how they are tested."""

from __future__ import annotations

from collections import deque

from cynosure.insight.audit_summary import AuditSummary
from cynosure.insight.citing.auditor import Audit, AuditorSettings
from cynosure.insight.citing.held_test import HeldAlarm
from cynosure.insight.rank_correlation import rank_correlation

#: Audits whose numbers are kept for the rank correlation.
MAX_KEPT = 1024


class AuditRecord:
    """Numbers alone; for one thread."""

    def __init__(self, settings: AuditorSettings) -> None:
        """Begin with none."""
        self._alarm = HeldAlarm(settings.floor, settings.alpha)
        self._num_held = 0
        self._sum_of_drops = 0.0
        self._pairs: deque[tuple[float, float]] = deque(maxlen=2 * MAX_KEPT)

    def add(self, audit: Audit) -> bool:
        """Count an audit; whether it is the one that raises the alarm."""
        self._num_held += audit.is_held
        self._sum_of_drops += audit.drop
        case = audit.case
        self._pairs += [(case.score, audit.drop), (case.other_score, audit.other_drop)]
        return self._alarm.add(is_held=audit.is_held)

    @property
    def summary(self) -> AuditSummary | None:
        """What is told; None before the first audit."""
        num = self._alarm.num_trials
        if not num:
            return None
        return AuditSummary(
            num=num,
            held=self._num_held / num,
            mean_drop_nats=self._sum_of_drops / num,
            rank_correlation=rank_correlation(*map(list, zip(*self._pairs, strict=True))),
            is_alarmed=self._alarm.is_tripped,
        )
