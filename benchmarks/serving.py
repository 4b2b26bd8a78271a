"""Put Cynosure and its peers under one load over HTTP; prints a table. Knows nothing of how they compute.

    python benchmarks/serving.py [--write] [--quick] [--only cynosure] [--shape smollm2-135m]

Each server in its turn serves one random-weight checkpoint of a real shape in bfloat16, with all cores, and
streams answers of one length to prompts that share nothing. Servers run one at a time; a repeat takes every
peer once, and figures are medians over the repeats. The client is this process.

- clients: so many at once, each asking again as soon as it is answered;
- rates: requests a second, coming independently, whoever has been answered.

`make peers` installs the peers: the server of transformers with continuous batching, and that of
llama-cpp-python, which answers one request at a time: the others wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cynosure.evaluate.event_stream import DONE, EventStream
from cynosure.evaluate.load import (
    Answer,
    Ask,
    Deadline,
    Window,
    closed_loop,
    figures,
    open_loop,
    poisson_arrivals,
)
from cynosure.evaluate.results import write_result
from cynosure.evaluate.server_process import ServerProcess, free_port, serve

COMMAND = "python benchmarks/serving.py --write"
HERE = Path(__file__).parent
PEERS = HERE.parent / ".peers"
CLIENTS = (1, 4, 16, 32)
RATES = (2, 8)
PROMPT_LENGTH, ANSWER_LENGTH = 128, 32
#: How long a server may take to be done with what came before.
FREE_S = 15.0
DEADLINE = Deadline(ttft_s=1.0, tpot_s=0.1)
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """How long to look: seconds before a window, of it, and after it; and how often."""

    settle_s: float = 1.5
    window_s: float = 5.0
    grace_s: float = 12.0
    repeats: int = 3

    def window(self) -> Window:
        """A window that is about to begin."""
        start_s = time.perf_counter() + self.settle_s
        return Window(start_s, start_s + self.window_s, self.grace_s)


@dataclass(frozen=True)
class Setting:
    """What is served: weights of a shape, in the two forms that are read; and by what.

    - `scratch`: where the weights lie, and logs.
    - `peers`: where the environments of the peers are.
    """

    shape: str
    scratch: Path
    peers: Path
    num_threads: int

    @property
    def folder(self) -> Path:
        """The weights as most programs read them."""
        return self.scratch / self.shape

    @property
    def gguf(self) -> Path:
        """The same for llama.cpp."""
        return self.scratch / f"{self.shape}.gguf"

    @property
    def llama_python(self) -> str:
        """The interpreter that has llama.cpp."""
        return str(self.peers / "llama/bin/python")


#: Figures of each load on one server.
Run = dict[str, dict[str, float]]
Start = Callable[[Setting], ServerProcess]


def start_cynosure(setting: Setting) -> ServerProcess:
    options = ["--threads", str(setting.num_threads), "--max-model-len", "1024"]
    server = serve([f"{setting.shape}={setting.folder}", *options], setting.scratch)
    server.wait_until_ready()
    return server


def start_transformers(setting: Setting) -> ServerProcess:
    port = free_port()
    program = str(setting.peers / "transformers/bin/transformers")
    command = [
        program, "serve", str(setting.folder), "--continuous-batching", "--device", "cpu",
        "--dtype", "bfloat16", "--host", "127.0.0.1", "--port", str(port),
        # By default it takes half of the machine's memory for pages, and its first answer waits for that.
        "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512",
    ]  # fmt: skip
    # As for our own engine: threads that spin for long lose a step once the client holds a core.
    environ = {"OMP_NUM_THREADS": str(setting.num_threads), "GOMP_SPINCOUNT": "1000", "HF_HUB_OFFLINE": "1"}
    log = setting.scratch / "transformers.log"
    server = ServerProcess(command, f"http://127.0.0.1:{port}", log, environ)
    server.wait_until_ready("/health")
    return server


def start_llama(setting: Setting) -> ServerProcess:
    port = free_port()
    threads = str(setting.num_threads)
    command = [
        setting.llama_python, "-m", "llama_cpp.server", "--model", str(setting.gguf),
        "--n_ctx", "1024", "--n_threads", threads, "--n_threads_batch", threads, "--port", str(port),
        # By default a request that comes cuts the stream of the one before it.
        "--interrupt_requests", "false", "--verbose", "false",
    ]  # fmt: skip
    server = ServerProcess(command, f"http://127.0.0.1:{port}", setting.scratch / "llama.log")
    server.wait_until_ready("/v1/models")
    return server


STARTS: Mapping[str, Start] = {
    "cynosure": start_cynosure,
    "transformers": start_transformers,
    "llama_cpp_python": start_llama,
}
ENVIRONMENTS = {"transformers": "transformers", "llama_cpp_python": "llama"}


def asker(url: str, model: str, dice: random.Random, more: Mapping[str, object] | None = None) -> Ask:
    """Sends prompts that nobody has sent, and notes the tokens of each answer.

    Ours tells `more`: the ids of the tokens in a piece, which may be several. Others send each by itself.
    """

    async def ask(answer: Answer) -> None:
        prompt = "".join(dice.choices(string.ascii_letters, k=PROMPT_LENGTH))
        body = {
            "model": model, "prompt": prompt, "max_tokens": ANSWER_LENGTH, "temperature": 0, "stream": True,
            **(more or {}),
        }  # fmt: skip
        stream = await EventStream.open(f"{url}/v1/completions", body)
        if stream.status != 200:
            raise RuntimeError(f"{url} answered {stream.status}: {(await stream.read())[:300]!r}")
        async for event in stream.events():
            if event.data == DONE:
                break
            for choice in event.json.get("choices", ()):
                told = choice.get("token_ids", [None] if choice["text"] else [])
                answer.token_s += [event.at_s] * len(told)
                # Random weights do not choose the end token: every answer is as long as may be.
                answer.is_whole = answer.is_whole or choice.get("finish_reason") == "length"

    return ask


@contextmanager
def watched_memory(server: ServerProcess) -> Iterator[list[int]]:
    """The most memory that a server held meanwhile, in bytes; read it afterwards."""
    most, is_over = [server.rss_bytes], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.5):
            most[0] = max(most[0], server.rss_bytes)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        is_over.set()
        watcher.join()


@dataclass(frozen=True)
class Load:
    """So many clients at once, or requests at a rate; `name` says which."""

    name: str
    num_clients: int = 0
    rate: int = 0


LOADS = (
    *(Load(f"clients {number}", num_clients=number) for number in CLIENTS),
    *(Load(f"rate {rate}", rate=rate) for rate in RATES),
)


async def bear(server: ServerProcess, ask: Ask, load: Load, plan: Plan, seed: int) -> dict[str, float]:
    """Put a server under one load."""
    window = plan.window()
    with watched_memory(server) as most:
        if load.rate:
            moments = poisson_arrivals(load.rate, time.perf_counter(), window.stop_s, seed)
            answers = await open_loop(ask, moments, window)
        else:
            answers = await closed_loop(ask, load.num_clients, window)
    return {**figures(answers, window, DEADLINE), "rss_mb": most[0] / MIB}


async def warm_up(ask: Ask) -> None:
    """Ask until a server is as fast as it will be."""
    now = time.perf_counter()
    await closed_loop(ask, 4, Window(now, now + 1, FREE_S))


async def is_free(ask: Ask) -> bool:
    """Whether a server is done with those who left, so that the next load begins on a free one."""
    try:
        async with asyncio.timeout(FREE_S):
            await ask(Answer(time.perf_counter()))
    except (TimeoutError, OSError):
        return False
    return True


def measure(peer: str, setting: Setting, plan: Plan, seed: int) -> Run:
    """Every load in turn on one server; on a new one where it does not get free of the load before."""
    found: Run = {}
    loads = list(LOADS)
    model = setting.shape if peer == "cynosure" else str(setting.folder)

    async def go_on(server: ServerProcess) -> None:
        more = {"return_token_ids": True} if peer == "cynosure" else None
        ask = asker(server.url, model, random.Random(seed), more)
        await warm_up(ask)
        while loads:
            load = loads.pop(0)
            found[load.name] = await bear(server, ask, load, plan, seed)
            if not await is_free(ask):
                print(f"{peer} did not recover from {load.name} within {FREE_S:g} s, and is started again")
                return

    while loads:
        with STARTS[peer](setting) as server:
            asyncio.run(go_on(server))
    return found


def medians(runs: Sequence[Run], kind: str) -> Run:
    """Of each figure of each load of a kind, over the repeats."""
    loads = [name for name in runs[0] if name.startswith(kind)]
    return {
        name.removeprefix(f"{kind} "): {
            figure: round(statistics.median(run[name][figure] for run in runs), 5) for figure in runs[0][name]
        }
        for name in loads
    }


def write_checkpoint(setting: Setting, with_gguf: bool) -> None:
    """Write the weights, in both forms if need be."""
    subprocess.run([sys.executable, str(HERE / "shapes.py"), setting.shape, str(setting.folder)], check=True)
    if with_gguf:
        script = str(HERE / "gguf_export.py")
        subprocess.run([setting.llama_python, script, str(setting.folder), str(setting.gguf)], check=True)


def installed(setting: Setting, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted that can be run; says which can't."""
    absent = [
        name for name in wanted if name in ENVIRONMENTS and not (setting.peers / ENVIRONMENTS[name]).is_dir()
    ]
    if absent:
        print(f"not installed, and left out: {', '.join(absent)}. `make peers` installs them.")
    return [name for name in wanted if name not in absent]


def run_all(setting: Setting, peers: Sequence[str], plan: Plan) -> dict[str, list[Run]]:
    """Every repeat of every peer, interleaved."""
    runs: dict[str, list[Run]] = {name: [] for name in peers}
    write_checkpoint(setting, "llama_cpp_python" in peers)
    for repeat in range(plan.repeats):
        for peer in peers:
            runs[peer].append(measure(peer, setting, plan, seed=repeat))
    return runs


def table(peer: str, found: Run, what: str) -> Iterator[str]:
    """A peer's lines."""
    for load, row in found.items():
        yield (
            f"{peer:<18}{load:>4} {what:<8}{row['ttft_p50_s']:>9.3f}{row['ttft_p99_s']:>9.3f}"
            f"{row['tpot_p50_s']:>9.4f}{row['tokens_per_s']:>9.1f}{row['goodput']:>9.2f}{row['rss_mb']:>8.0f}"
            f"{row['num_requests']:>7.0f}{row['num_unanswered']:>7.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/serving.json")
    parser.add_argument("--quick", action="store_true", help="one repeat of short windows: a minute or so")
    parser.add_argument("--only", action="append", choices=STARTS, help="this one; repeatable")
    parser.add_argument("--shape", default="smollm2-135m", help="of benchmarks/shapes.py (smollm2-135m)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of computing")
    parser.add_argument("--peers", type=Path, default=PEERS, help="where their environments are (.peers)")
    arguments = parser.parse_args()
    plan = Plan(settle_s=0.5, window_s=1.5, grace_s=6.0, repeats=1) if arguments.quick else Plan()
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(arguments.shape, Path(scratch), arguments.peers, arguments.threads)
        peers = installed(setting, [name for name in STARTS if name in (arguments.only or STARTS)])
        runs = run_all(setting, peers, plan)
    print(f"{'':31}ttft p50      p99 tpot p50    tok/s  goodput     MiB   sent   late")
    metrics: dict[str, object] = {}
    rates: dict[str, object] = {}
    for peer in peers:
        metrics[peer] = by_clients = medians(runs[peer], "clients")
        rates[peer] = by_rate = medians(runs[peer], "rate")
        print("\n".join([*table(peer, by_clients, "clients"), *table(peer, by_rate, "a second")]))
    told = {
        "shape": arguments.shape, "prompt_tokens": PROMPT_LENGTH, "answer_tokens": ANSWER_LENGTH,
        "threads": arguments.threads, "repeats": plan.repeats, "window_s": plan.window_s,
        "deadline_ttft_s": DEADLINE.ttft_s, "deadline_tpot_s": DEADLINE.tpot_s,
    }  # fmt: skip
    if arguments.write:
        print(write_result("serving", {**metrics, "rates": rates, "setting": told}, COMMAND))


if __name__ == "__main__":
    main()
