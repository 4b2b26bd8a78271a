"""A record counts audits, and raises its alarm once."""

from __future__ import annotations

import random

import pytest

from cynosure.insight.citing.audit_record import MAX_KEPT, AuditRecord
from cynosure.insight.citing.auditor import Audit, AuditCase, AuditorSettings


def audit(score: float, drop: float, other_score: float, other_drop: float) -> Audit:
    return Audit(AuditCase(0, 1, 2, 3, score, other_score), drop, other_drop)


def test_nothing_is_told_before_the_first() -> None:
    assert AuditRecord(AuditorSettings()).summary is None


def test_what_is_told() -> None:
    record = AuditRecord(AuditorSettings())
    for one in (audit(0.9, 3.0, 0.1, 0.0), audit(0.8, 2.0, 0.2, 0.5), audit(0.7, 0.4, 0.3, 1.0)):
        assert not record.add(one)
    told = record.summary
    assert told is not None
    assert (told.num, told.is_alarmed) == (3, False)
    assert told.held == pytest.approx(2 / 3)
    assert told.mean_drop_nats == pytest.approx(1.8)
    # Scores in order are .1 .2 .3 .7 .8 .9, and their drops 0 .5 1 .4 2 3.
    assert told.rank_correlation == pytest.approx(1 - 6 * (0 + 1 + 1 + 4) / (6 * 35))


def test_citations_at_random_raise_the_alarm_once() -> None:
    record, dice = AuditRecord(AuditorSettings()), random.Random(1)
    told = [record.add(audit(dice.random(), dice.random(), dice.random(), dice.random())) for _ in range(300)]
    assert told.count(True) == 1
    assert told.index(True) < 100
    summary = record.summary
    assert summary is not None
    assert summary.is_alarmed
    assert summary.rank_correlation == pytest.approx(0, abs=0.2)


def test_memory_is_bounded() -> None:
    record = AuditRecord(AuditorSettings())
    for number in range(MAX_KEPT + 100):
        record.add(audit(0.9, float(number), 0.1, 0.0))
    assert len(record._pairs) == 2 * MAX_KEPT
    assert record.summary is not None
    assert record.summary.num == MAX_KEPT + 100
