"""The replay: a trace by hand, and what it counts."""

from __future__ import annotations

import pytest

from cynosure.engine.schedule import Limits
from cynosure.engine.simulator import Arrival, StepCost, simulate

COST = StepCost(step_s=1.0, prefill_token_s=0.1, decode_s=0.01)
LIMITS = Limits(64, 4, 10, 4, 100, 100)


def test_one_request_by_hand() -> None:
    """12 tokens in chunks of 10 and 2, then two decodes; nothing happens before it arrives."""
    sim = simulate([Arrival("a", 5.0, 12, 3)], LIMITS, COST)
    assert sim.outcomes["a"].token_s == pytest.approx([5 + 2.0 + 1.2, 9.21, 10.22])
    assert sim.outcomes["a"].ttft_s == pytest.approx(3.2)
    assert sim.outcomes["a"].gaps_s == pytest.approx([1.01, 1.01])
    assert [record.now for record in sim.records] == pytest.approx([5.0, 7.0, 8.2, 9.21])


def test_time_runs_on_where_nobody_is_there() -> None:
    sim = simulate([Arrival("a", 0.0, 2, 1), Arrival("b", 100.0, 2, 1)], LIMITS, COST)
    assert sim.outcomes["b"].token_s[0] == pytest.approx(101.2)


def test_a_replay_repeats_and_can_be_cut() -> None:
    arrivals = [Arrival(f"r{index}", 0.5 * index, 9, 4) for index in range(9)]
    assert simulate(arrivals, LIMITS, COST) == simulate(reversed(arrivals), LIMITS, COST)
    cut = simulate(arrivals, LIMITS, COST, until_s=3.0)
    assert max(record.now for record in cut.records) < 3.0
    assert not all(outcome.is_finished for outcome in cut.outcomes.values())
