"""Weigh the packed models, and time a server that was given none to its first answers. Trains nothing.

    python -m evals.pack [--write]

A server starts with an empty data folder on all cores: it loads the pack, reads and embeds the documentation
of this Python, and answers a question; then a line of code is completed, and the memory of its processes is
read. It is started again over what it kept. The files of Python and torch are in the page cache by then, as
they are on a machine in use; the installation is not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.start import EXPECTED, MAX_SECONDS, first_answer, started
from cynosure.evaluate.results import write_result
from cynosure.pack import CORE_LM, RANKER, pack_bytes, pack_folder

COMMAND = "python -m evals.pack --write"
CODE = {"model": CORE_LM, "prompt": "import os\n\n\ndef size_of(path):\n    return os.", "suffix": "\n"}


def family_of(pid: int) -> list[int]:
    """A process, and all that it and its children started."""
    # A child belongs to the thread that started it.
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [pid, *(one for child in children for one in family_of(child))]


def resident_mb(pid: int) -> float:
    """What a process and its children hold in memory; of pages that they share, each has its part."""
    total = 0
    for one in family_of(pid):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def complete(url: str) -> str:
    """Have a line of code completed."""
    body = json.dumps(CODE | {"max_tokens": 16, "temperature": 0, "stop": ["\n"]}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["choices"][0]["text"]


def start(home: Path) -> dict[str, float]:
    """Seconds to the first answer, and the memory held after it and a completion."""
    begun = time.perf_counter()
    with started(home, set(os.sched_getaffinity(0))) as (url, pid):
        answer = first_answer(url, begun + MAX_SECONDS)
        taken = time.perf_counter() - begun
        written = complete(url)
        resident = resident_mb(pid)
    assert answer["quotes"][0]["object"] == EXPECTED, answer
    print(f"{taken:6.1f} s to the first answer, {resident:6.0f} MB; os.{written}")
    return {"answer_s": taken, "rss_mb": resident}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write results/pack.json")
    arguments = parser.parse_args()
    megabytes = pack_bytes() / 1e6
    for name in (RANKER, CORE_LM):
        print(f"{name}: {(pack_folder(name) / 'model.safetensors').stat().st_size / 1e6:.1f} MB of weights")
    with tempfile.TemporaryDirectory() as folder:
        first, second = start(Path(folder)), start(Path(folder))
    if arguments.write:
        metrics = {
            "megabytes": round(megabytes, 1),
            "first_answer_s": round(first["answer_s"], 1),
            "second_answer_s": round(second["answer_s"], 2),
            "rss_mb": round(max(first["rss_mb"], second["rss_mb"])),
            "cores": len(os.sched_getaffinity(0)),
        }
        print(write_result("pack", metrics, COMMAND))


if __name__ == "__main__":
    main()
