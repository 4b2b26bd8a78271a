"""Faults hurt nobody else: a short campaign of `evals/faults.py`, and what its judge sees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynosure.evaluate.server_process import ServerProcess
from evals import faults
from evals.fault_engine import InProcess, controls
from evals.fault_plan import Fault, Kind, Outcome, hurt, new_faults, unharmed
from evals.fault_server import KINDS, OverHttp, kill_engine, serve_seats

NUM_SEATS = 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.write_toy(tmp_path_factory.mktemp("faults") / "toy")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[InProcess]:
    run = InProcess(checkpoint, num_seats=NUM_SEATS)
    yield run
    run.close()


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[ServerProcess]:
    with serve_seats(checkpoint, checkpoint.parent) as process:
        process.wait_until_ready()
        yield process


def test_fifty_faults_in_the_engine_hurt_their_targets_only(engine: InProcess) -> None:
    tally = faults.in_process(engine, 50)
    assert (tally.injected, tally.collateral, tally.unharmed, tally.pages_leaked) == (50, 0, 0, 0)
    assert set(tally.by_kind) == {"exception", "allocation", "nan", "grammar", "leaves"}
    assert min(tally.by_kind.values()) >= 10


def test_the_campaign_sees_neighbours_that_are_hurt_and_pages_that_leak(engine: InProcess) -> None:
    assert controls(engine) == [True, True, True]


def test_clients_that_stall_or_leave_and_an_engine_that_is_killed(server: ServerProcess) -> None:
    """One wave, and one more after the kill."""

    async def campaign() -> None:
        http = OverHttp(server, NUM_SEATS)
        undisturbed = await http.wave({})
        planted = new_faults(random.Random(2), KINDS, 8, NUM_SEATS)
        wave = await http.wave(planted)
        assert not hurt(wave, planted, undisturbed)
        assert not unharmed(wave, planted)
        assert not http.is_in_use()
        death = await kill_engine(http)
        assert (death.num_cut, death.num_hung, death.status) == (NUM_SEATS, 0, 503)
        assert death.retry_after_s >= 1
        assert not hurt(await http.wave({}), {}, undisturbed)

    asyncio.run(campaign())


def test_the_judge_tells_targets_from_neighbours() -> None:
    undisturbed = {seat: Outcome([(seat, -0.5)], "finished") for seat in range(4)}
    wave = {
        0: Outcome([(0, -0.5)], "finished"),
        1: Outcome([(1, -0.25)], "finished"),
        2: Outcome([], "failed"),
        3: Outcome([(3, -0.5)], "finished"),
    }
    assert hurt(wave, {}, undisturbed) == [1, 2]
    planted = {2: Fault(Kind.NAN, 0), 3: Fault(Kind.LEAVES, 0)}
    assert hurt(wave, planted, undisturbed) == [1]
    assert unharmed(wave, planted) == [3]
