"""Replay traces through the scheduler on a model of time; prints waits for each policy.

    python benchmarks/scheduler_sim.py [--write]

No model runs: a step costs a fixed time, so much a token of a prompt and so much a decode. What is compared
is the policy, on the same trace: prompts in chunks against whole ones, tenants served alike against first
come first served, early refusal against trying everything. The same seed gives the same figures on any
machine.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cynosure.engine.schedule import Limits
from cynosure.engine.simulator import Arrival, Outcome, Simulation, StepCost, simulate
from cynosure.evaluate.results import write_result

SEED = 7
COST = StepCost(step_s=0.02, prefill_token_s=0.0002, decode_s=0.0005)
LIMITS = Limits(
    max_num_batched_tokens=8192,
    max_num_seqs=32,
    chunk_size=512,
    block_size=32,
    num_blocks=4000,
    num_free_blocks=4000,
)
DEADLINE_S = 6.0


def mixed_load(num: int, per_second: float, chance: random.Random) -> list[Arrival]:
    """Poisson arrivals: four chats in five, the others long documents."""
    arrivals, now = [], 0.0
    for index in range(num):
        now += chance.expovariate(per_second)
        is_chat = chance.random() < 0.8
        num_prompt = chance.randint(20, 300) if is_chat else chance.randint(2000, 8000)
        arrivals.append(Arrival(f"r{index}", now, num_prompt, chance.randint(20, 200)))
    return arrivals


def flooded(chance: random.Random) -> list[Arrival]:
    """A tenant that asks little beside one that sends more than can be served."""
    polite = [replace(item, tenant="polite") for item in mixed_load(60, 1.0, chance)]
    flood = [
        Arrival(f"f{index}", index * 0.05, chance.randint(100, 600), chance.randint(20, 100), tenant="flood")
        for index in range(600)
    ]
    return polite + flood


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of them do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def waits(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Seconds to the first token, and between tokens."""
    begun = [outcome for outcome in outcomes if outcome.token_s]
    gaps = [gap for outcome in begun for gap in outcome.gaps_s]
    return {
        "ttft_p50_s": percentile((outcome.ttft_s for outcome in begun), 0.5),
        "ttft_p99_s": percentile((outcome.ttft_s for outcome in begun), 0.99),
        "tpot_p50_s": percentile(gaps, 0.5),
        "tpot_p99_s": percentile(gaps, 0.99),
        "longest_gap_s": max(gaps),
    }


def in_time(sim: Simulation) -> float:
    """The share of all requests that were answered whole within the deadline."""
    outcomes = sim.outcomes.values()
    good = [
        outcome
        for outcome in outcomes
        if outcome.is_finished and outcome.token_s[-1] <= outcome.arrival.arrival_s + DEADLINE_S
    ]
    return len(good) / len(outcomes)


def chunks() -> dict[str, dict[str, float]]:
    """Prompts in chunks, and whole: nobody decodes while a long prompt is computed."""
    trace = mixed_load(400, 1.6, random.Random(SEED))
    whole = replace(LIMITS, chunk_size=LIMITS.max_num_batched_tokens)
    return {
        name: waits(list(simulate(trace, limits, COST).outcomes.values()))
        for name, limits in (("chunked", LIMITS), ("whole", whole))
    }


def tenants() -> dict[str, dict[str, float]]:
    """What the polite tenant waits beside one that floods."""
    trace = flooded(random.Random(SEED))
    found = {}
    for name, is_fair in (("fair", True), ("first_come", False)):
        sim = simulate(trace, LIMITS, COST, is_fair=is_fair)
        found[name] = waits(
            [outcome for outcome in sim.outcomes.values() if outcome.arrival.tenant == "polite"]
        )
    return found


def deadlines() -> dict[str, float]:
    """The share answered in time under twice the load that can be served."""
    trace = mixed_load(400, 5.0, random.Random(SEED))
    due = [replace(arrival, deadline_s=arrival.arrival_s + DEADLINE_S) for arrival in trace]
    return {
        "refusing": in_time(simulate(due, LIMITS, COST)),
        "trying_all": in_time(simulate(trace, LIMITS, COST)),
    }


def step_ms() -> float:
    """Milliseconds that a replayed step takes here; not deterministic, so not written."""
    trace = mixed_load(300, 3.0, random.Random(SEED))
    start = time.perf_counter()
    sim = simulate(trace, LIMITS, COST)
    return 1e3 * (time.perf_counter() - start) / len(sim.records)


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n{title:<28}" + "".join(f"{name:>15}" for name in names))
    for name, row in rows.items():
        print(f"{name:<28}" + "".join(f"{row[key]:>15.3f}" for key in names))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/scheduler_sim.json")
    arguments = parser.parse_args()
    by_chunk, by_tenant, by_deadline = chunks(), tenants(), deadlines()
    show("prompts, all requests", by_chunk)
    show("tenants, the polite one", by_tenant)
    print(f"\nanswered within {DEADLINE_S:g} s under overload:", end=" ")
    print(", ".join(f"{name} {share:.3f}" for name, share in by_deadline.items()))
    print(f"a replayed step, decision included: {step_ms():.2f} ms")
    if arguments.write:
        metrics = {
            **by_chunk,
            **by_tenant,
            "in_time": by_deadline,
            "longest_gap_ratio": by_chunk["whole"]["longest_gap_s"] / by_chunk["chunked"]["longest_gap_s"],
            "tpot_p99_ratio": by_chunk["whole"]["tpot_p99_s"] / by_chunk["chunked"]["tpot_p99_s"],
            "polite_ttft_p99_ratio": by_tenant["first_come"]["ttft_p99_s"] / by_tenant["fair"]["ttft_p99_s"],
            "in_time_ratio": by_deadline["refusing"] / by_deadline["trying_all"],
        }
        write_result("scheduler_sim", metrics, "python benchmarks/scheduler_sim.py --write")


if __name__ == "__main__":
    main()
