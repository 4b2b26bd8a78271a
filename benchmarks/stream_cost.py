"""Say what a token costs on its way from a step of the engine to a client, part by part. Prints a table.

    python -m benchmarks.stream_cost [--write] [--delay-ms 0 40] [--protocol chat]

The engine is a script that computes nothing: each step gives every stream a token. A step of one stream takes
4 ms, one of 16 streams 10 ms, about as of a model of 135 million weights on four cores. All else is real: the
wire between two processes, the server with guard, meter and journal, HTTP, and a client in a third process.
This is what is taken from a model that keeps all cores busy.

Microseconds of processor time a token, by who spends them, from long answers less short ones, so that what a
request costs once is left out: the engine's process (less the script's own sleep), the server's thread that
reads from it, its event loop, and the client. `switches` counts how often threads of engine and server went
to sleep, `pieces` the events of the streams, both by the token. Other work changes these less than clocks.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scripted_engine import NAME
from benchmarks.shapes import SHAPES, write_tokenizer
from cynosure.engine.wire.messages import STREAM_DELAY_S
from cynosure.evaluate.event_stream import EventStream
from cynosure.evaluate.results import write_result

COMMAND = "python -m benchmarks.stream_cost --write"
PROC = Path("/proc")
#: Streams at once, seconds of a step, and tokens of a short and of a long answer.
LOADS = ((1, 0.004, 100, 700), (16, 0.010, 30, 230))
PARTS = ("engine", "reading", "event_loop", "client")
MESSAGES = [{"role": "user", "content": "Hello."}]
#: Address and body by protocol; the answer's length goes under the name that follows.
PROTOCOLS: Mapping[str, tuple[str, dict[str, object], str]] = {
    "completions": ("/v1/completions", {"prompt": "Hello."}, "max_tokens"),
    "chat": ("/v1/chat/completions", {"messages": MESSAGES}, "max_tokens"),
    "messages": ("/v1/messages", {"messages": MESSAGES}, "max_tokens"),
    "responses": ("/v1/responses", {"input": "Hello."}, "max_output_tokens"),
}


@dataclass(frozen=True)
class Served:
    """A server that runs, and its engine."""

    url: str
    server: int
    engine: int


@contextmanager
def serving(folder: Path, step_s: float, delay_s: float) -> Iterator[Served]:
    """The scripted engine behind the server."""
    command = [sys.executable, "-m", "benchmarks.stream_server", str(folder), str(step_s), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, engine = process.stdout.readline().split()
        try:
            yield Served(f"http://127.0.0.1:{port}", process.pid, int(engine))
        finally:
            process.terminate()


def cpu_s(pid: int) -> dict[int, float]:
    """Seconds that each thread of a process has computed."""
    found = {}
    for thread in (PROC / str(pid) / "task").iterdir():
        try:
            found[int(thread.name)] = int((thread / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return found


def num_switches(pid: int) -> int:
    """How often threads of a process have gone to sleep."""
    lines = [
        line
        for thread in (PROC / str(pid) / "task").iterdir()
        for line in (thread / "status").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def sleep_cost_s(step_s: float, count: int = 100) -> float:
    """What a script that only sleeps computes, by the step."""
    begun = time.thread_time()
    for _ in range(count):
        time.sleep(step_s)
    return (time.thread_time() - begun) / count


async def ask(url: str, protocol: str, num_tokens: int) -> int:
    """Read one stream to its end; return how many events it had."""
    path, body, length = PROTOCOLS[protocol]
    asked = {"model": NAME, "temperature": 0, "stream": True, **body, length: num_tokens}
    stream = await EventStream.open(url + path, asked)
    if stream.status != 200:
        raise RuntimeError(f"{url} answered {stream.status}: {(await stream.read())[:300]!r}")
    return sum([1 async for _ in stream.events()])


async def ask_all(url: str, protocol: str, num_streams: int, num_tokens: int) -> int:
    """So many streams at once; return how many events they had together."""
    return sum(await asyncio.gather(*(ask(url, protocol, num_tokens) for _ in range(num_streams))))


def spent(served: Served, protocol: str, num_streams: int, num_tokens: int) -> dict[str, float]:
    """What some streams cost in all."""

    def now() -> dict[str, float]:
        server = cpu_s(served.server)
        loop = server.pop(served.server)
        return {
            "engine": sum(cpu_s(served.engine).values()),
            "reading": sum(server.values()),
            "event_loop": loop,
            "client": time.process_time(),
            "switches": num_switches(served.server) + num_switches(served.engine),
        }

    before = now()
    pieces = asyncio.run(ask_all(served.url, protocol, num_streams, num_tokens))
    after = now()
    return {name: after[name] - before[name] for name in after} | {"pieces": pieces}


def by_token(
    served: Served, protocol: str, load: tuple[int, float, int, int], sleep_s: float, repeats: int
) -> dict[str, float]:
    """Medians of what one token more costs, in microseconds; of switches and pieces, the number."""
    num_streams, _, few, many = load
    spent(served, protocol, num_streams, few)
    rows: list[dict[str, float]] = []
    for _ in range(repeats):
        short, long = (spent(served, protocol, num_streams, count) for count in (few, many))
        tokens = num_streams * (many - few)
        row = {name: (long[name] - short[name]) / tokens for name in long}
        # The script's sleep is nobody's: a model computes then.
        row["engine"] = max(0.0, row["engine"] - sleep_s / num_streams)
        rows.append({name: value * (1e6 if name in PARTS else 1) for name, value in row.items()})
    found = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {"total": sum(found[part] for part in PARTS)} | found


def key_of(protocol: str, num_streams: int, delay_ms: float) -> str:
    """What a row is called."""
    return f"{protocol}_x{num_streams}_delay_{delay_ms:g}".replace(".", "_")


def line_of(name: str, row: Mapping[str, float]) -> str:
    """A row as it is printed."""
    digits = dict.fromkeys(("total", *PARTS), 0)
    return f"{name:<28}" + "".join(f"{value:>11.{digits.get(part, 2)}f}" for part, value in row.items())


def measure(
    folder: Path, protocols: Sequence[str], delays_ms: Sequence[float], repeats: int
) -> dict[str, object]:
    """Every protocol under every load, with every delay."""
    rows: dict[str, object] = {}
    for load in LOADS:
        sleep_s = sleep_cost_s(load[1])
        for delay_ms in delays_ms:
            with serving(folder, load[1], delay_ms / 1000) as served:
                for protocol in protocols:
                    name = key_of(protocol, load[0], delay_ms)
                    rows[name] = row = by_token(served, protocol, load, sleep_s, repeats)
                    print(line_of(name, row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/stream_cost.json")
    parser.add_argument("--delay-ms", type=float, nargs="+", default=[0.0, 1000 * STREAM_DELAY_S])
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="repeatable (all)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(" " * 28 + "".join(f"{name:>11}" for name in ("total", *PARTS, "switches", "pieces")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_tokenizer(SHAPES["toy"], folder)
        rows = measure(folder, arguments.protocol or list(PROTOCOLS), arguments.delay_ms, arguments.repeats)
    if arguments.write:
        print(write_result("stream_cost", {"by_token": rows}, COMMAND))


if __name__ == "__main__":
    main()
