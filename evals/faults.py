"""Break requests on purpose while 64 run, and count whom else it hurt. Knows nothing of why an engine holds.

    python -m evals.faults [--write] [--faults 1000]

Waves of 112 requests run on one small random-weight checkpoint, and in each some are targets. Four faults in
five are planted in an engine in this process (`fault_engine.py`): an exception or a failed allocation in the
middle of a pass, embeddings that are not numbers, a grammar that does not compile, a caller that takes its
request back. The others come to a server over HTTP (`fault_server.py`), from clients that stall or hang up;
at last its engine process is killed under load.

- A target must end as its fault says.
- The others must end well, with the tokens of an undisturbed wave: most are `reproducible`, and of these
  every bit of every log-probability must be the same.
- Afterwards every page must be free, or kept as a known beginning.

Positive controls: a fault that hits a neighbour, silently or not, and a page that nobody gives back are seen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.shapes import SHAPES, write_checkpoint
from cynosure.evaluate.results import write_result
from evals import fault_engine, fault_server
from evals.fault_engine import InProcess, controls
from evals.fault_plan import NUM_SEATS, Fault, Wave, hurt, new_faults, unharmed
from evals.fault_server import Death, OverHttp, kill_engine, serve_seats

COMMAND = "python -m evals.faults --write"
#: Of a wave; the others are neighbours.
NUM_TARGETS = 20
NUM_HTTP_TARGETS = 16
#: At the median, when a fault strikes.
MIN_RUNNING = 64


@dataclass
class Tally:
    """What so many faults did; a target is `unharmed` where its fault did not end it as it should."""

    injected: int = 0
    collateral: int = 0
    unharmed: int = 0
    pages_leaked: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    def add(self, wave: Wave, faults: Mapping[int, Fault], undisturbed: Wave, num_leaked: int) -> None:
        """Judge a wave."""
        self.injected += len(faults)
        self.collateral += len(hurt(wave, faults, undisturbed))
        self.unharmed += len(unharmed(wave, faults))
        self.pages_leaked += num_leaked
        for fault in faults.values():
            self.by_kind[fault.kind.value] = self.by_kind.get(fault.kind.value, 0) + 1


def write_toy(folder: Path) -> Path:
    """A small decoder with random weights, and its tokenizer."""
    return write_checkpoint(SHAPES["toy"], folder)


def in_process(run: InProcess, num_faults: int) -> Tally:
    """Run waves until so many faults have struck."""
    tally, dice = Tally(), random.Random(0)
    while tally.injected < num_faults:
        count = min(run.num_seats * NUM_TARGETS // NUM_SEATS, num_faults - tally.injected)
        faults = new_faults(dice, fault_engine.KINDS, count, run.num_seats)
        wave = run.wave(faults)
        # Whoever ended before its own fault could strike was hurt by an earlier one: by a page that was kept.
        early = run.missed(faults)
        struck = {seat: fault for seat, fault in faults.items() if seat not in early}
        judged = {seat: outcome for seat, outcome in wave.items() if seat not in early}
        tally.add(judged, struck, run.undisturbed, run.num_leaked)
        tally.collateral += len(early)
    return tally


async def over_http(http: OverHttp, num_faults: int) -> tuple[Tally, Death]:
    """The same of clients that stall or leave; then kill the engine, and run one more undisturbed wave."""
    tally, dice = Tally(), random.Random(1)
    undisturbed = await http.wave({})
    while tally.injected < num_faults:
        count = min(NUM_HTTP_TARGETS, num_faults - tally.injected)
        faults = new_faults(dice, fault_server.KINDS, count)
        wave = await http.wave(faults)
        tally.add(wave, faults, undisturbed, int(await asyncio.to_thread(http.is_in_use)))
    death = await kill_engine(http)
    tally.add(await http.wave({}), {}, undisturbed, int(await asyncio.to_thread(http.is_in_use)))
    return tally, death


def metrics_of(
    inside: Tally, outside: Tally, death: Death, run: InProcess, num_seen: int
) -> dict[str, object]:
    """What `results/faults.json` holds."""
    return {
        "injected": inside.injected + outside.injected,
        "collateral": inside.collateral + outside.collateral,
        "unharmed": inside.unharmed + outside.unharmed,
        "pages_leaked": inside.pages_leaked + outside.pages_leaked,
        "in_process": asdict(inside),
        "over_http": asdict(outside),
        "median_running": int(statistics.median(run.num_running)),
        "controls_seen": num_seen,
        "engine_killed": {**asdict(death), "back_s": round(death.back_s, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write results/faults.json")
    parser.add_argument("--faults", type=int, default=1000, help="how many in all (1000)")
    arguments = parser.parse_args()
    num_outside = arguments.faults // 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_toy(Path(scratch) / "toy")
        run = InProcess(folder)
        inside = in_process(run, arguments.faults - num_outside)
        print(f"in process     {inside}")
        seen = controls(run)
        run.close()
        print(f"controls seen  {seen}")
        with serve_seats(folder, Path(scratch)) as server:
            server.wait_until_ready()
            outside, death = asyncio.run(over_http(OverHttp(server), num_outside))
        print(f"over HTTP      {outside}")
        print(f"engine killed  {death}")
    metrics = metrics_of(inside, outside, death, run, sum(seen))
    if arguments.write:
        print(write_result("faults", metrics, COMMAND))
    is_well = all(metrics[name] == 0 for name in ("collateral", "unharmed", "pages_leaked")) and all(seen)
    is_well = is_well and statistics.median(run.num_running) >= MIN_RUNNING
    sys.exit(0 if is_well and death.status == 503 and death.retry_after_s and not death.num_hung else 1)


if __name__ == "__main__":
    main()
