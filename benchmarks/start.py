"""Time from starting the server to its first answer, first start and second. Knows nothing of what is inside.

    python benchmarks/start.py [--write]

A server starts with an empty data folder, on two cores: it reads the documentation, embeds it, and answers.
Then it is stopped and started again over what it kept. The files of Python and torch are in the page cache
by then, as they are on a machine in use; the installation is not part of it.

`ready_s` is of a server with one model and no documentation, on all cores: a checkpoint of the shape of
Qwen2.5-0.5B with random weights in bfloat16, read once before so that it is in the page cache. It counts from
the start of the process until requests are taken. Its parts: until it listens, and until the engine's process
is up, which imports torch; the rest is loading.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cynosure.evaluate.results import write_result

COMMAND = "python benchmarks/start.py --write"
QUESTION = "how do I merge sorted iterables"
EXPECTED = "heapq.merge"
NUM_CORES = 2
MAX_SECONDS = 600.0
NUM_SECOND_STARTS = 3
SHAPE = "qwen2.5-0.5b"


@contextmanager
def started(home: Path, cores: set[int]) -> Iterator[tuple[str, int]]:
    """A server on some cores, with its data in `home`: its address and its process, as soon as it listens."""
    environment = os.environ | {"CYNOSURE_HOME": str(home)}
    command = [sys.executable, "-m", "cynosure.cli.main", "serve", "--port", "0"]
    server = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert server.stderr is not None
    try:
        yield server.stderr.readline().split()[-1], server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        server.stderr.close()


def seconds_to_answer(home: Path, cores: set[int]) -> float:
    """Start the server on some cores, wait for its first answer, and stop it."""
    begun = time.perf_counter()
    with started(home, cores) as (url, _):
        answer = first_answer(url, begun + MAX_SECONDS)
        taken = time.perf_counter() - begun
    assert answer["quotes"][0]["object"] == EXPECTED, answer
    return taken


def first_answer(url: str, deadline: float) -> dict[str, list[dict[str, str]]]:
    """Ask until the server no longer says that it is loading."""
    body = json.dumps({"question": QUESTION}).encode()
    request = urllib.request.Request(f"{url}/v1/ask", body, {"Content-Type": "application/json"})
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 503:
                raise
        time.sleep(0.05)
    raise TimeoutError(f"no answer within {MAX_SECONDS:g} s")


def seconds_to_ready(folder: Path) -> dict[str, float]:
    """Start a server for one checkpoint, and stop it once it is ready; seconds to each of its stages."""
    command = [
        sys.executable,
        "-m",
        "cynosure.cli.main",
        "serve",
        str(folder),
        "--without-docs",
        "--port",
        "0",
    ]
    begun = time.perf_counter()
    server = subprocess.Popen(
        command, env=os.environ | {"CYNOSURE_HOME": str(folder / "home")}, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    stages = {}
    try:
        # Where there is no terminal, a line is written as each stage begins.
        for line in server.stderr:
            for name, words in (("listening", "listens"), ("engine", "Loading"), ("ready", "Ready")):
                if words in line:
                    stages[name] = time.perf_counter() - begun
            if "Ready" in line:
                return stages
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        server.stderr.close()
    raise RuntimeError("the server ended before it was ready")


def model_starts(count: int) -> list[dict[str, float]]:
    """Stages of so many starts, the fastest first; one before them fills the page cache."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / SHAPE
        writer = Path(__file__).with_name("shapes.py")
        subprocess.run(
            [sys.executable, str(writer), SHAPE, str(folder)], check=True, stdout=subprocess.DEVNULL
        )
        seconds_to_ready(folder)
        return sorted((seconds_to_ready(folder) for _ in range(count)), key=lambda stages: stages["ready"])


def seconds_to_import() -> float:
    """What `import cynosure` takes in a new process, at best: a shared machine only ever adds time."""
    code = "from time import perf_counter as t; a = t(); import cynosure; print(t() - a)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write results/start.json")
    arguments = parser.parse_args()
    cores = set(sorted(os.sched_getaffinity(0))[:NUM_CORES])
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        first = seconds_to_answer(home, cores)
        print(f"first start to first answer  {first:6.1f} s on {len(cores)} cores")
        second = [seconds_to_answer(home, cores) for _ in range(NUM_SECOND_STARTS)]
        print(f"second start to answer       {' '.join(f'{taken:6.2f}' for taken in second)} s")
    starts = model_starts(NUM_SECOND_STARTS)
    for stages in starts:
        parts = ", ".join(f"{name} after {taken:.2f} s" for name, taken in stages.items())
        print(f"one {SHAPE} model      {parts}")
    ready = starts[len(starts) // 2]
    imported = seconds_to_import()
    print(f"import cynosure              {imported:6.3f} s")
    if arguments.write:
        metrics = {
            "first_answer_s": round(first, 1),
            "second_start_s": round(sorted(second)[len(second) // 2], 2),
            "ready_s": round(ready["ready"], 2),
            "ready_listening_s": round(ready["listening"], 2),
            "ready_engine_s": round(ready["engine"], 2),
            "import_s": round(imported, 4),
            "cores": len(cores),
        }
        print(write_result("start", metrics, COMMAND))


if __name__ == "__main__":
    main()
