"""The alarm trips soon where citations are drawn at random, and hardly ever where enough of them hold."""

from __future__ import annotations

import math
import random
from statistics import mean

import pytest

from cynosure.insight.citing.held_test import FRESH_EVERY, HeldAlarm, HeldTest

FLOOR, ALPHA = 0.75, 0.01


def trips_at(chance: float, seed: int, limit: int, *, good: int = 0) -> int | None:
    """After how many trials of a chance it trips, behind `good` ones of which 97% held."""
    dice, alarm = random.Random(seed), HeldAlarm(FLOOR, ALPHA)
    for place in range(good + limit):
        is_tripping = alarm.add(is_held=dice.random() < (0.97 if place < good else chance))
        assert is_tripping == (alarm.tripped_at == place + 1)
        if is_tripping:
            assert place >= good, "the good ones tripped it"
            return place + 1 - good
    return None


@pytest.mark.parametrize(("chance", "limit"), [(0.0, 10), (0.25, 40), (0.5, 150)])
def test_what_holds_by_chance_trips_it(chance: float, limit: int) -> None:
    assert None not in [trips_at(chance, seed, limit) for seed in range(40)]


def test_citations_that_hold_do_not() -> None:
    assert trips_at(0.95, 1, 3_000) is None


def test_at_the_floor_it_trips_no_more_often_than_it_may() -> None:
    """The hardest case that the claim allows: of 50 runs, five would trip once in ten thousand tests."""
    assert sum(trips_at(FLOOR, seed, 400) is not None for seed in range(50)) <= 4


def test_a_long_good_time_is_no_credit() -> None:
    """Fresh tests see a fall at once; the endless one would take thousands: the control."""
    late = [trips_at(0.2, seed, 200, good=3_000) for seed in range(4)]
    assert None not in late
    alone, dice = HeldTest(FLOOR), random.Random(1)
    for _ in range(3_000):
        alone.add(is_held=dice.random() < 0.97)
    for _ in range(200):
        alone.add(is_held=dice.random() < 0.2)
    assert alone.log_stake < 0


def test_the_stake_is_fair_at_the_floor() -> None:
    """Over all outcomes of ten trials, by their chances, it stays 1 on average."""
    total = 0.0
    for outcome in range(2**10):
        held = [bool(outcome >> place & 1) for place in range(10)]
        test = HeldTest(FLOOR)
        for one in held:
            test.add(is_held=one)
        chance = math.prod(FLOOR if one else 1 - FLOOR for one in held)
        total += chance * math.exp(test.log_stake)
    assert total == pytest.approx(1)


def test_it_stays_tripped_and_knows_few_tests() -> None:
    alarm = HeldAlarm(FLOOR, ALPHA)
    told = [alarm.add(is_held=False) for _ in range(50)] + [alarm.add(is_held=True) for _ in range(500)]
    assert told.count(True) == 1
    assert alarm.is_tripped
    assert alarm.num_trials == 550
    assert len(alarm._fresh) == 2
    assert mean(alarm._fresh) == 550 // FRESH_EVERY - 0.5
