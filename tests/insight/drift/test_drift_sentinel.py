from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.insight import ReadToken, TokenShares
from cynosure.insight.drift.drift_monitor import DriftMonitor
from cynosure.insight.drift.drift_reference import read_reference, write_reference
from cynosure.insight.drift.drift_sentinel import (
    MIN_LIMIT,
    FrozenSentinel,
    SentinelAnswer,
    SentinelWatch,
    compared,
    distance,
)
from tests.insight.drift_world import answers, frozen


def answer(*ids: int, user: float = 0.5, prompt: tuple[int, ...] = (1, 2)) -> SentinelAnswer:
    tokens = [
        ReadToken(one, "", 0, -0.25 * one, TokenShares((user,), 0.25, 0.25 - at / 64, at / 64, 1.0))
        for at, one in enumerate(ids)
    ]
    return SentinelAnswer.of(prompt, tokens)


FIRST = answer(5, 6, 7)
KEPT = FrozenSentinel.of("line 1", FIRST, FIRST)


def test_the_same_answer_is_the_same() -> None:
    assert KEPT.limit == MIN_LIMIT
    assert compared(KEPT, answer(5, 6, 7)) == ("same", 0.0)
    assert compared(KEPT, answer(5, 6, 7, user=0.5 + MIN_LIMIT / 2))[0] == "same"


def test_what_moved_is_told_with_how_far() -> None:
    state, far = compared(KEPT, answer(5, 6, 7, user=0.51))
    assert state == "moved"
    assert far == pytest.approx(0.01)
    # Likelihoods of tokens that differ are not compared, and nothing behind them.
    state, far = compared(KEPT, answer(5, 9, 7, user=0.501))
    assert state == "answer"
    assert far == pytest.approx(0.001)
    assert compared(KEPT, answer(5, 6, 7, prompt=(1, 3))) == ("prompt", None)
    assert compared(KEPT, answer(5, 6))[0] == "answer"
    assert distance(answer(), answer()) is None


def test_noise_that_was_there_is_no_change() -> None:
    noisy = FrozenSentinel.of("line 1", FIRST, answer(5, 6, 7, user=0.501))
    assert noisy.limit == pytest.approx(0.02)
    assert compared(noisy, answer(5, 6, 7, user=0.51))[0] == "same"


def test_one_that_differs_is_confirmed_by_the_next() -> None:
    watch = SentinelWatch([KEPT, replace(KEPT, id="line 2")])
    moved = answer(5, 6, 7, user=0.6)
    states = []
    for place, given in ((0, moved), (1, FIRST), (0, moved), (1, moved), (0, FIRST)):
        watch.add(place, given)
        states.append((watch.is_in_doubt, watch.is_moved))
    assert states == [(True, False), (False, False), (True, False), (False, True), (False, False)]
    assert [reading.num_answers for reading in watch.readings] == [3, 2]
    assert not SentinelWatch([]).is_moved


def test_a_monitor_raises_it_and_takes_it_back() -> None:
    reference = replace(frozen(), sentinels=(KEPT, replace(KEPT, id="line 2")))
    monitor = DriftMonitor(reference)
    for calm in answers(2, 5):
        monitor.add(calm, 0.0)
    moved = answer(5, 6, 7, user=0.6)
    assert monitor.add_sentinel(0, moved, 1.0) is None
    alarm = monitor.add_sentinel(1, moved, 2.0)
    assert alarm is not None
    assert (alarm.kind, alarm.chart, alarm.at_answer, alarm.since_s) == ("sentinel", "line 2", 5, 2.0)
    assert "by 0.1" in alarm.message
    assert monitor.add_sentinel(0, moved, 3.0) is None
    assert monitor.add_sentinel(1, FIRST, 4.0) is None
    assert monitor.alarm is None
    assert monitor.past_alarms[0].ended_s == 4.0


@pytest.mark.parametrize(
    ("given", "told"), [(answer(8), "other tokens"), (answer(5, 6, 7, prompt=(9,)), "template")]
)
def test_an_alarm_says_what_differs(given: SentinelAnswer, told: str) -> None:
    monitor = DriftMonitor(replace(frozen(), sentinels=(KEPT,)))
    alarm = monitor.add_sentinel(0, given, 1.0)
    assert alarm is not None
    assert told in alarm.message


def test_a_file_keeps_numbers_to_the_last_bit(tmp_path: Path) -> None:
    odd = FrozenSentinel.of("line 1", answer(5, 6, user=1 / 3), answer(5, 6, user=1 / 3 + 1e-4))
    reference = replace(frozen(), sentinels=(odd,))
    write_reference(reference, tmp_path / "m.json")
    read = read_reference(tmp_path / "m.json")
    assert read.sentinels == (odd,)
    assert read.digest == reference.digest
