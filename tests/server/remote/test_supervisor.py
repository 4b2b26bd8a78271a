"""A real engine process under a real server: killed, stopped, hung and left, on a tiny random model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.core.errors import CheckpointNotFound, EngineDown, EnvironmentFault
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.settings import EngineSettings
from cynosure.engine.wire.messages import LoadModel, Setup
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.remote import supervisor as supervisor_module
from cynosure.server.remote.engine import RemoteEngine
from cynosure.server.remote.supervisor import Supervisor, SupervisorSettings
from cynosure.server.services import Services
from tests.server.fakes import CREATED, serving
from tests.server.served_tiny import write_decoder

FAST = SupervisorSettings(silence_s=2.0, first_pause_s=0.3)
#: Long enough that it is still under way when the process is gone.
LONG = {"model": "tiny", "prompt": "a star", "max_tokens": 3000, "ignore_eos": True, "temperature": 0}
GREEDY = LONG | {"max_tokens": 12}


def _setup(checkpoint: Path) -> Setup:
    engine = EngineSettings(max_num_seqs=4, max_num_batched_tokens=64)
    pool = PoolSettings(engine=engine, kv_cache_bytes=8 << 20)
    return Setup((ServedModel("tiny", str(checkpoint), dtype="float32"),), pool, num_threads=1)


@dataclass
class Served:
    """A server, and the process that computes for it."""

    url: str
    supervisor: Supervisor
    results: list[httpx.Response] = field(default_factory=list)

    def complete(self, **fields: object) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/completions", json=GREEDY | fields, timeout=30)

    def in_background(self, count: int) -> list[threading.Thread]:
        """So many answers that take their time; their responses are in `results`."""

        def ask() -> None:
            response = httpx.post(f"{self.url}/v1/completions", json=LONG | {"prompt": "b"}, timeout=60)
            self.results.append(response)

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2])

    def kill(self, number: signal.Signals) -> None:
        assert self.supervisor.pid is not None
        os.kill(self.supervisor.pid, number)


def _until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    return folder


@pytest.fixture(scope="module")
def served(checkpoint: Path) -> Iterator[Served]:
    supervisor = Supervisor(_setup(checkpoint), ["tiny"], FAST)

    def load(report: Callable[[str, int, int], None]) -> Services:
        card = supervisor.start(lambda stage: report(stage, 0, 0))["tiny"]
        tokenizer = Tokenizer.from_folder(checkpoint)
        completer = EngineCompleter("tiny", card, tokenizer, None, RemoteEngine(card, supervisor))
        return Services({}, {}, {"tiny": completer}, CREATED, engine=supervisor)

    with serving(load, wait_s=60) as url:
        yield Served(url, supervisor)


def test_a_client_that_leaves_frees_its_pages(served: Served) -> None:
    with httpx.stream("POST", f"{served.url}/v1/completions", json=LONG | {"stream": True}) as response:
        next(response.iter_lines())
    _until(lambda: served.metric("cynosure_kv_cache_usage_perc{") == 0, 2)
    assert served.metric("cynosure_num_requests_running{") == 0


def test_what_was_under_way_in_a_killed_process_fails_and_the_next_one_serves(served: Served) -> None:
    before = served.complete().json()["choices"][0]["text"]
    restarts = served.supervisor.num_restarts
    served.results.clear()
    with httpx.stream("POST", f"{served.url}/v1/completions", json=LONG | {"stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        background = served.in_background(8)
        _until(lambda: served.metric("cynosure_num_requests_waiting{") > 0)
        # In the middle of its work, and dead.
        served.kill(signal.SIGSTOP)
        served.kill(signal.SIGKILL)
        rest = [line for line in lines if line]
    assert response.status_code == 200
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "engine_down"
    assert "data: [DONE]" not in rest
    for thread in background:
        thread.join(20)
    failed = [response for response in served.results if response.status_code == 503]
    assert failed, "some were under way"
    assert {response.status_code for response in served.results} <= {200, 503}
    assert all(int(response.headers["Retry-After"]) >= 1 for response in failed)

    refused = served.complete()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "engine_down"
    assert int(refused.headers["Retry-After"]) >= 1
    ready = httpx.get(f"{served.url}/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "restarting")
    assert served.metric("cynosure_engine_up") == 0
    # What needs no computing goes on.
    assert httpx.get(f"{served.url}/v1/models").status_code == 200
    assert httpx.post(f"{served.url}/tokenize", json={"model": "tiny", "prompt": "a"}).status_code == 200

    _until(lambda: httpx.get(f"{served.url}/ready").status_code == 200)
    assert served.complete().json()["choices"][0]["text"] == before
    assert served.metric("cynosure_engine_restarts_total") == restarts + 1
    _until(lambda: served.metric("cynosure_kv_cache_usage_perc{") == 0, 5)


def test_a_process_that_hangs_holds_nobody_up_and_is_ended(served: Served) -> None:
    restarts, pid = served.supervisor.num_restarts, served.supervisor.pid
    served.results.clear()
    served.kill(signal.SIGSTOP)
    background = served.in_background(3)
    taken = []
    while served.supervisor.pid == pid:
        begun = time.monotonic()
        assert httpx.get(f"{served.url}/live").status_code == 200
        taken.append(time.monotonic() - begun)
    assert sorted(taken)[len(taken) // 2] < FAST.silence_s / 4
    for thread in background:
        thread.join(20)
    assert {response.status_code for response in served.results} == {503}
    _until(lambda: httpx.get(f"{served.url}/ready").status_code == 200)
    assert served.supervisor.num_restarts == restarts + 1
    assert served.complete().status_code == 200


#: A process of ours whose next step sleeps for a minute, once, where a file says so; Python goes on.
STUCK = """#!{python}
import sys, time
from pathlib import Path
from cynosure.engine import core, worker
step = core.EngineCore.step
def stuck(self, now):
    if Path({flag!r}).exists():
        Path({flag!r}).unlink()
        time.sleep(60)
    step(self, now)
core.EngineCore.step = stuck
worker.main(sys.argv[3:])
"""


def test_a_step_that_never_ends_is_noticed_though_the_process_lives(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, program = tmp_path / "stuck", tmp_path / "program"
    program.write_text(STUCK.format(python=sys.executable, flag=str(flag)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    patient = SupervisorSettings(silence_s=30.0, step_s=1.0, first_pause_s=0.1)
    supervisor = Supervisor(_setup(checkpoint), ["tiny"], patient)

    def load(report: Callable[[str, int, int], None]) -> Services:
        card = supervisor.start(lambda stage: report(stage, 0, 0))["tiny"]
        tokenizer = Tokenizer.from_folder(checkpoint)
        completer = EngineCompleter("tiny", card, tokenizer, None, RemoteEngine(card, supervisor))
        return Services({}, {}, {"tiny": completer}, CREATED, engine=supervisor)

    with serving(load, wait_s=60) as url:
        served = Served(url, supervisor)
        # Requests of many short steps, longer in all than a step may be, are none of its business.
        assert served.complete(max_tokens=1200).status_code == 200
        assert supervisor.num_restarts == 0
        flag.touch()
        begun = time.monotonic()
        assert served.complete().status_code == 503
        assert 1.0 < time.monotonic() - begun < 10
        _until(lambda: httpx.get(f"{url}/ready").status_code == 200)
        assert served.complete().status_code == 200
        assert supervisor.num_restarts == 1


#: A process of ours in which a model never comes into memory, where a file says so; Python goes on.
UNLOADED = """#!{python}
import sys, time
from pathlib import Path
from cynosure.engine import worker
from cynosure.engine.pool import pool
load = pool.load_resident
def stuck(*arguments):
    if Path({flag!r}).exists():
        Path({flag!r}).unlink()
        time.sleep(60)
    return load(*arguments)
pool.load_resident = stuck
worker.main(sys.argv[3:])
"""


def test_a_model_that_never_comes_into_memory_is_noticed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, program = tmp_path / "stuck", tmp_path / "program"
    program.write_text(UNLOADED.format(python=sys.executable, flag=str(flag)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    patient = SupervisorSettings(silence_s=30.0, load_s=1.0, first_pause_s=0.1)
    # The first start fails, and says why.
    flag.touch()
    hasty = Supervisor(_setup(checkpoint), ["tiny"], patient)
    with pytest.raises(EnvironmentFault, match="a model took more than 1 s to load"):
        hasty.start(lambda stage: None)
    hasty.close()
    # One that is up already is started again.
    supervisor = Supervisor(_setup(checkpoint), [], patient)
    supervisor.start(lambda stage: None)
    try:
        flag.touch()
        future = supervisor.link.call(lambda number: LoadModel(number, "tiny"))
        with pytest.raises(EngineDown):
            future.result(20)
        _until(lambda: supervisor.is_up)
        assert supervisor.num_restarts == 1
        supervisor.link.call(lambda number: LoadModel(number, "tiny")).result(20)
        assert supervisor.num_restarts == 1
    finally:
        supervisor.close()


def test_closing_ends_the_process_and_what_waits_for_it(checkpoint: Path) -> None:
    supervisor = Supervisor(_setup(checkpoint))
    supervisor.start(lambda stage: None)
    pid = supervisor.pid
    assert pid is not None
    begun = time.monotonic()
    supervisor.close()
    assert time.monotonic() - begun < 4
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineDown):
        _ = supervisor.link
    supervisor.close()


def test_what_it_can_not_serve_is_said_at_once_and_not_tried_again(tmp_path: Path) -> None:
    supervisor = Supervisor(_setup(tmp_path / "absent"))
    with pytest.raises(CheckpointNotFound, match="there is no folder"):
        supervisor.start(lambda stage: None)
    assert supervisor.num_restarts == 0
    supervisor.close()


def test_a_process_that_does_not_come_up_ends_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    supervisor = Supervisor(_setup(tmp_path))
    with pytest.raises(EnvironmentFault, match="did not start: exit status 1"):
        supervisor.start(lambda stage: None)


def test_the_process_dies_with_a_parent_that_is_killed(checkpoint: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from cynosure.engine.pool.card import ServedModel\n"
        "from cynosure.engine.pool.settings import PoolSettings\n"
        "from cynosure.engine.wire.messages import Setup\n"
        "from cynosure.server.remote.supervisor import Supervisor\n"
        "supervisor = Supervisor(Setup((ServedModel('tiny', sys.argv[1]),), PoolSettings(), 1))\n"
        "supervisor.start(lambda stage: None)\n"
        "print(supervisor.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    _until(
        lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes(), 5
    )


def test_pauses_between_starts_grow_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As seen by a clock that is not waited for."""
    supervisor = Supervisor(_setup(tmp_path), settings=SupervisorSettings(first_pause_s=1, max_pause_s=5))
    supervisor._first.set_result({})
    pauses: list[float] = []

    def wait(seconds: float | None = None) -> bool:
        pauses.append(seconds or 0.0)
        return len(pauses) == 5

    def no_process() -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor_module, "_spawn", no_process)
    monkeypatch.setattr(supervisor._closing, "wait", wait)
    supervisor._supervise()
    assert pauses == [1, 2, 4, 5, 5]
    assert supervisor.num_restarts == 4
    with pytest.raises(EngineDown) as down:
        _ = supervisor.link
    assert down.value.retry_after_s >= 1
