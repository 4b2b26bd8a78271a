"""What can be promised: refusals with the predicted wait, and prompts that leave room for a deadline."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cynosure.engine.deadlines import prefill_budget
from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Limits, Rates, SequenceView
from cynosure.engine.scheduler import schedule
from cynosure.engine.simulator import Arrival, Simulation, StepCost, simulate

LIMITS = Limits(512, 4, 100, 16, 1000, 1000)
RATES = Rates(prefill_tokens_per_s=1000.0, step_s=0.1, answer_tokens=20.0)


def new(name: str, num_tokens: int, deadline_s: float | None = None, arrival_s: float = 0.0) -> SequenceView:
    return SequenceView(name, num_tokens, 0, num_tokens + 50, deadline_s=deadline_s, arrival_s=arrival_s)


def decoding(name: str, deadline_s: float | None = None) -> SequenceView:
    return SequenceView(name, 40, 39, 60, 3, deadline_s=deadline_s)


def test_one_that_is_too_late_is_refused_with_the_predicted_wait() -> None:
    """500 tokens in 5 chunks: 0.5 s and 5 steps of 0.1 s; then 19 tokens more: 2.9 s in all."""
    assert not schedule([new("a", 500, 2.91)], [], LIMITS, 0.0, RATES).refuse
    [refusal] = schedule([new("a", 500, 2.89)], [], LIMITS, 0.0, RATES).refuse
    assert refusal.reason is RefusalReason.DEADLINE
    assert refusal.predicted_wait_s == pytest.approx(1.0)
    assert "in 1 s and be done in 2.9 s; its deadline is in 2.89 s" in refusal.message


def test_those_ahead_count_and_those_refused_do_not() -> None:
    ahead, refused = new("ahead", 1000), new("refused", 1000, 0.5, 1.0)
    late = new("late", 100, 6.5, 2.0)
    plan = schedule([ahead, refused, late], [], LIMITS, 2.0, RATES)
    assert [item.request_id for item in plan.refuse] == ["refused"]
    assert [
        item[0] for item in schedule([ahead, new("x", 1000, None, 1.0), late], [], LIMITS, 2.0, RATES).refuse
    ] == ["late"]


def test_a_wait_for_a_slot_is_predicted() -> None:
    """Four answers of 20 tokens at 0.1 s a step free a slot every half second."""
    busy = [decoding(f"d{index}") for index in range(4)]
    [refusal] = schedule([new("a", 10, 1.0)], busy, LIMITS, 0.0, RATES).refuse
    assert refusal.predicted_wait_s == pytest.approx(0.5 + 0.11)


def test_what_is_not_measured_refuses_only_what_is_over() -> None:
    assert not schedule([new("a", 5000, 0.01)], [], LIMITS, 0.0).refuse
    [refusal] = schedule([new("a", 5000, 0.01)], [], LIMITS, 0.01).refuse
    assert refusal.reason is RefusalReason.DEADLINE


def test_what_was_admitted_before_is_not_refused() -> None:
    back = replace(new("a", 500, 0.1), was_admitted=True)
    assert not schedule([back], [], LIMITS, 5.0, RATES).refuse


@pytest.mark.parametrize(
    ("deadline_s", "expected"),
    [
        (None, 100),
        (60.0, 100),
        (3.001, 50),  # 20 tokens in 3 s: 0.15 s a step, of which 0.05 s are spare
        (2.1, 16),  # 0.005 s are spare: no less than a page
        (1.0, 100),  # lost in any case
    ],
)
def test_chunks_shrink_for_a_deadline(deadline_s: float | None, expected: int) -> None:
    assert prefill_budget([decoding("d", deadline_s)], 512, LIMITS, 0.0, RATES) == expected


def test_without_a_decode_or_rates_nothing_shrinks() -> None:
    assert prefill_budget([], 512, LIMITS, 0.0, RATES) == 512
    assert prefill_budget([decoding("d", 3.0)], 512, LIMITS, 0.0, Rates()) == 100
    assert prefill_budget([decoding("d", 3.0)], 7, LIMITS, 0.0, RATES) == 7


def overload(deadline_after_s: float | None) -> Simulation:
    """Twice as many requests as can be served."""
    chance = random.Random(5)
    arrivals, now = [], 0.0
    for index in range(150):
        now += chance.expovariate(12.0)
        deadline_s = None if deadline_after_s is None else now + deadline_after_s
        arrivals.append(
            Arrival(f"r{index}", now, chance.randint(50, 400), chance.randint(10, 50), deadline_s=deadline_s)
        )
    return simulate(arrivals, Limits(512, 8, 256, 16, 1000, 1000), StepCost())


def test_under_overload_what_is_begun_is_mostly_in_time() -> None:
    def num_in_time(sim: Simulation) -> int:
        return sum(
            outcome.is_finished and outcome.token_s[-1] - outcome.arrival.arrival_s <= 4.0
            for outcome in sim.outcomes.values()
        )

    plain, picky = overload(None), overload(4.0)
    begun = [outcome for outcome in picky.outcomes.values() if outcome.token_s]
    assert num_in_time(picky) > 1.5 * num_in_time(plain)
    # Answers are as long as usual on average, not each of them.
    assert num_in_time(picky) > 0.75 * len(begun)
    assert num_in_time(plain) < 0.5 * len(plain.outcomes)
    waits = [
        outcome.refusal.predicted_wait_s for outcome in picky.outcomes.values() if outcome.refusal is not None
    ]
    assert waits
    assert all(wait is not None and wait > 0 for wait in waits)
