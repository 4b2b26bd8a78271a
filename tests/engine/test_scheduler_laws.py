"""Whatever arrives, in every step of a replay: the laws of the scheduler."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Limits, Step
from cynosure.engine.scheduler import schedule
from cynosure.engine.simulator import Arrival, Simulation, StepCost, StepRecord, simulate
from tests.engine.schedule_rules import faults

COST = StepCost()


@st.composite
def all_limits(draw: st.DrawFn) -> Limits:
    num_seqs = draw(st.integers(1, 6))
    num_blocks = draw(st.integers(1, 24))
    return Limits(
        max_num_batched_tokens=draw(st.integers(num_seqs, 48)),
        max_num_seqs=num_seqs,
        chunk_size=draw(st.integers(1, 24)),
        block_size=draw(st.sampled_from([1, 4, 16])),
        num_blocks=num_blocks,
        num_free_blocks=num_blocks,
        aging_s=draw(st.sampled_from([0.1, 10.0])),
    )


def all_arrivals(has_deadlines: bool = True) -> st.SearchStrategy[list[Arrival]]:
    one = st.builds(
        Arrival,
        request_id=st.just(""),
        arrival_s=st.floats(0.0, 2.0),
        num_prompt=st.integers(1, 80),
        num_answer=st.integers(1, 12),
        max_tokens=st.none() | st.integers(12, 40),
        tenant=st.sampled_from("abc"),
        priority=st.integers(-1, 2),
        deadline_s=(st.none() | st.floats(0.0, 6.0)) if has_deadlines else st.none(),
    )
    named = st.lists(one, min_size=1, max_size=14)
    return named.map(lambda found: [replace(item, request_id=f"r{n}") for n, item in enumerate(found)])


@settings(max_examples=300)
@given(all_arrivals(), all_limits())
def test_every_step_is_sound_and_every_request_ends(arrivals: list[Arrival], limits: Limits) -> None:
    sim = simulate(arrivals, limits, COST)
    for record in sim.records:
        assert faults(record) == []
    for outcome in sim.outcomes.values():
        assert outcome.is_finished != (outcome.refusal is not None), "exactly one end"
        if outcome.refusal is not None:
            assert not outcome.token_s, "what began is never refused"
        if outcome.arrival.deadline_s is None and outcome.refusal is not None:
            assert outcome.refusal.reason is RefusalReason.TOO_LARGE


def sound_record() -> StepRecord:
    """A step with decodes, a prompt and one that waits for room."""
    limits = Limits(16, 3, 8, 4, 30, 30)
    arrivals = [Arrival("a", 0.0, 3, 9), Arrival("b", 0.0, 3, 9), Arrival("c", 0.05, 20, 9)]
    arrivals.append(Arrival("d", 0.05, 20, 9))
    records = simulate(arrivals, limits, COST).records
    return next(r for r in records if len(r.schedule.steps) == 3 and r.schedule.new_blocks and r.waiting)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"steps": [("a", 1), ("b", 1), ("c", 15)]}, "over the budget"),
        ({"steps": [("a", 1), ("b", 1), ("b", 1)]}, "is told 2 things"),
        ({"steps": [("a", 1), ("c", 8)]}, "b waits to decode"),
        ({"steps": [("a", 1), ("b", 1), ("c", 9)]}, "c gets 9 of"),
        ({"steps": [("a", 1), ("b", 1), ("c", 6), ("d", 6)]}, "run at once"),
        ({"steps": [("a", 1), ("b", 1), ("c", 6), ("d", 6)]}, "beside a decode"),
        ({"steps": [("a", 1), ("b", 1), ("z", 1)]}, "z is unknown"),
        ({"new_blocks": {"c": 99}}, "than are free"),
        ({"new_blocks": {}}, "without pages for its prompt"),
        ({"new_blocks": {"d": 1}}, "does not run"),
        ({"preempt": ("d",)}, "d does not run"),
    ],
)
def test_each_fault_would_be_found(wrong: dict[str, Any], fault: str) -> None:
    record = sound_record()
    assert faults(record) == []
    changed = dict(wrong)
    if "steps" in wrong:
        changed["steps"] = tuple(Step(*step) for step in wrong["steps"])
    plan = replace(record.schedule, **changed)
    assert any(fault in found for found in faults(replace(record, schedule=plan)))


@settings(max_examples=60)
@given(all_arrivals(), all_limits(), st.randoms(use_true_random=False))
def test_the_order_of_the_lists_does_not_matter(
    arrivals: list[Arrival], limits: Limits, chance: random.Random
) -> None:
    for record in simulate(arrivals, limits, COST).records[:40]:
        waiting, running = list(record.waiting), list(record.running)
        chance.shuffle(waiting)
        chance.shuffle(running)
        plans = [
            schedule(waiting, running, record.limits, record.now),
            schedule(record.waiting, record.running, record.limits, record.now),
        ]
        assert plans[0] == plans[1]


@settings(max_examples=60)
@given(all_arrivals(has_deadlines=False), all_limits())
def test_among_equals_who_came_first_begins_first(arrivals: list[Arrival], limits: Limits) -> None:
    equals = [replace(arrival, tenant="", priority=0) for arrival in arrivals]
    sim = simulate(equals, limits, COST)
    begun = _first_steps(sim)
    served = sorted(begun, key=lambda name: (sim.outcomes[name].arrival.arrival_s, name))
    assert [begun[name] for name in served] == sorted(begun.values())


def _first_steps(sim: Simulation) -> dict[str, int]:
    begun: dict[str, int] = {}
    for place, record in enumerate(sim.records):
        for step in record.schedule.steps:
            begun.setdefault(step.request_id, place)
    return begun


def flood(num: int, tenant: str, priority: int = 0, seed: int = 0) -> list[Arrival]:
    """A backlog that is there from the start and keeps coming."""
    chance = random.Random(f"{tenant}{seed}")
    return [
        Arrival(
            f"{tenant}{index}",
            index * 0.02,
            chance.randint(5, 300 if tenant == "a" else 60),
            chance.randint(1, 20 if tenant == "a" else 60),
            tenant=tenant,
            priority=priority,
        )
        for index in range(num)
    ]


ROOMY = Limits(256, 8, 128, 16, 400, 400)


@pytest.mark.parametrize("seed", range(2))
def test_two_tenants_with_a_backlog_are_served_alike(seed: int) -> None:
    """One asks for long prompts more often, the other for long answers."""
    arrivals = flood(500, "a", seed=seed) + flood(250, "b", seed=seed)
    ratios = {}
    for is_fair in (True, False):
        sim = simulate(arrivals, ROOMY, COST, is_fair=is_fair, until_s=10.0)
        last = sim.records[-1]
        assert {view.tenant for view in last.waiting} == {"a", "b"}, (
            "both still wait, so both could be served"
        )
        ratios[is_fair] = last.served["a"] / last.served["b"]
    assert ratios[True] == pytest.approx(1.0, abs=0.1)
    assert ratios[False] > 2.0, "without fairness, whoever asks more gets more"


def test_one_that_matters_little_is_not_starved() -> None:
    """Urgent requests keep coming, more than can be served; waiting wins in the end."""
    urgent = flood(1000, "a", priority=0)
    little = [Arrival("little", 0.5, 50, 5, tenant="b", priority=3)]
    sim = simulate(urgent + little, replace(ROOMY, aging_s=2.0), COST, until_s=10.0)
    assert sim.outcomes["little"].is_finished
    assert 5.0 < sim.outcomes["little"].ttft_s < 10.0, "three levels of two seconds, then its turn"
    patient = simulate(urgent + little, replace(ROOMY, aging_s=1e9), COST, until_s=10.0)
    assert not patient.outcomes["little"].token_s, "without aging it waits for ever"


def test_a_decode_waits_for_no_more_than_a_chunk() -> None:
    chat = [Arrival(f"chat{index}", 0.0, 8, 60) for index in range(3)]
    long = [Arrival(f"long{index}", 0.2 * (index + 1), 3000, 2) for index in range(3)]
    limits = Limits(4096, 8, 64, 16, 2000, 2000)

    def worst_gap(chunk_size: int) -> float:
        sim = simulate(chat + long, replace(limits, chunk_size=chunk_size), COST)
        return max(gap for arrival in chat for gap in sim.outcomes[arrival.request_id].gaps_s)

    bound = COST.seconds(64, len(chat) + len(long))
    assert worst_gap(64) <= bound
    assert worst_gap(4096) > 5 * bound, "whole prompts hold the others up"


@settings(max_examples=40)
@given(all_arrivals(has_deadlines=False), st.integers(2, 5))
def test_scarce_memory_delays_and_loses_nothing(arrivals: list[Arrival], num_seqs: int) -> None:
    """As many pages as the largest needs alone: whoever is preempted comes back and ends."""
    size = max(arrival.num_prompt + (arrival.max_tokens or arrival.num_answer) for arrival in arrivals)
    limits = Limits(64, num_seqs, 16, 4, -(-size // 4), -(-size // 4))
    sim = simulate(arrivals, limits, COST)
    assert all(outcome.is_finished for outcome in sim.outcomes.values())


def test_memory_is_scarce_enough_to_preempt() -> None:
    """Without this, the test above could pass without a single preemption."""
    arrivals = [Arrival(f"r{index}", 0.0, 6, 30) for index in range(6)]
    sim = simulate(arrivals, Limits(64, 6, 16, 4, 14, 14), COST)
    assert sum(outcome.num_preemptions for outcome in sim.outcomes.values()) > 0
    assert all(outcome.is_finished for outcome in sim.outcomes.values())
    assert sim.outcomes["r0"].num_preemptions == 0, "the first is never the one to go"
