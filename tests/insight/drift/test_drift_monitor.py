from __future__ import annotations

from dataclasses import dataclass

import pytest

from cynosure.insight.drift.drift_features import FEATURES
from cynosure.insight.drift.drift_monitor import HISTORY_EVERY, WINDOW, DriftMonitor
from cynosure.insight.drift.drift_reference import DriftReference
from tests.insight.drift_world import PLACE, answers, frozen


@pytest.fixture
def reference() -> DriftReference:
    return frozen()


def test_a_shift_is_told_once_and_ends(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference)
    came = [
        alarm
        for at, answer in enumerate(answers(2, 200) + answers(3, 200, {"entropy": 1.0}) + answers(4, 400))
        if (alarm := monitor.add(answer, float(at))) is not None
    ]
    assert len(came) == 1
    alarm = came[0]
    assert 200 < alarm.at_answer < 230
    assert alarm.since_s == alarm.at_answer - 1
    assert "entropy" in alarm.message
    assert monitor.num_alarms == 1
    assert monitor.alarm is None
    ended = monitor.past_alarms[0]
    assert ended.ended_s is not None
    assert 400 < ended.ended_s < 700


def test_a_message_says_which_way_and_how_far(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference)
    for answer in answers(3, 300, {"answer_tokens": -3.0}):
        if monitor.add(answer, 0.0) is not None and monitor.alarm is not None:
            break
    assert monitor.alarm is not None
    if monitor.alarm.kind == "feature":
        assert monitor.alarm.message.startswith("tokens of the answer: less than answers")


def test_window_and_history_are_bounded(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference)
    for answer in answers(2, WINDOW + 60):
        monitor.add(answer, 0.0)
    assert len(monitor.window[1]) == WINDOW
    assert len(monitor.history) == (WINDOW + 60) // HISTORY_EVERY
    assert len(monitor.history[0]) == len(FEATURES)


@dataclass
class Third:
    """Sees a change at the third value."""

    num: int = 0

    def changed(self, value: float) -> bool:
        self.num += 1
        return self.num == 3


def test_a_second_opinion_raises_no_alarm(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference, Third)
    assert [monitor.add(answer, 0.0) for answer in answers(2, 5)] == [None] * 5
    assert {(seen.num_changes, seen.last_change) for seen in monitor.changes} == {(1, 3)}


def test_directions_name_their_features(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference)
    weights = monitor.direction(0)
    assert set(weights) <= set(PLACE)
    sizes = [abs(weight) for weight in weights.values()]
    assert sizes == sorted(sizes, reverse=True)
