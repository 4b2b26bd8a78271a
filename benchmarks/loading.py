"""Time and memory to load a model for serving, with packed weights on disk and without. Needs no server.

    python -m benchmarks.loading [--write] [--shape qwen2.5-0.5b] [--repeats 3]

Each load is a process of its own: it imports, loads a checkpoint of random weights, reserves pages and
decodes a few tokens. The time counts from after the imports until tokens are taken; memory is the most that
was resident (VmHWM) above what it was after the imports, against packed weights and the whole cache. The
first load packs and keeps what it packed; the median of those that come after is the second. The
checkpoint's files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.shapes import SHAPES, write_checkpoint
from benchmarks.speed_rows import key_of
from cynosure.engine import Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.kernels import kernels
from cynosure.models.decoder import Decoder
from cynosure.models.native.packed_load import load_packed

COMMAND = "python -m benchmarks.loading --write"
SCHEMES = ("bf16", "int8", "int4")
CACHE_BYTES = 64 << 20
PROMPT, TOKENS = 512, 8


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def load_once(folder: Path, packed: Path, scheme: str) -> dict[str, float]:
    """Load in this process, decode, and tell what it took."""
    kernels()
    before, begun = peak_bytes(), time.perf_counter()
    quantize = None if scheme == "bf16" else scheme
    model = load_packed(folder, packed, dtype="bfloat16", quantize=quantize)
    assert isinstance(model.graph, Decoder)
    engine = EngineCore(model.graph, (), EngineSettings(kv_cache_bytes=CACHE_BYTES), model_id="loading")
    taken = time.perf_counter() - begun
    params = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    engine.add(Request("one", tuple(range(1, PROMPT + 1)), params), lambda event: None)
    while engine.has_work:
        engine.step(time.monotonic())
    needed = engine.native.packed_bytes + engine.cache.num_bytes
    return {"seconds": taken, "peak_bytes": peak_bytes() - before, "needed_bytes": needed}


def measure(folder: Path, packed: Path, scheme: str) -> dict[str, float]:
    """One load, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loading", "--once", str(folder), str(packed), scheme]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def summed_up(first: dict[str, float], later: list[dict[str, float]]) -> dict[str, float]:
    """The first load, and the median of those after it."""
    second = {key: statistics.median(load[key] for load in later) for key in first}
    return {
        "first_s": first["seconds"],
        "second_s": second["seconds"],
        "first_memory_ratio": first["peak_bytes"] / first["needed_bytes"],
        "second_memory_ratio": second["peak_bytes"] / second["needed_bytes"],
        "weights_and_cache_mib": first["needed_bytes"] / (1 << 20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/loading.json")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", nargs=3, metavar=("FOLDER", "PACKED", "SCHEME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        folder, packed, scheme = arguments.once
        print(json.dumps(load_once(Path(folder), Path(packed), scheme)))
        return
    rows: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        write_checkpoint(SHAPES[arguments.shape], folder)
        for scheme in SCHEMES:
            packed = Path(scratch) / scheme
            first = measure(folder, packed, scheme)
            found = summed_up(first, [measure(folder, packed, scheme) for _ in range(arguments.repeats)])
            rows[key_of(arguments.shape, scheme)] = found
            told = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            print(f"{arguments.shape} {scheme}: {told}", flush=True)
    if arguments.write:
        print(write_result("loading", {"rows": rows, "repeats": arguments.repeats}, COMMAND))


if __name__ == "__main__":
    main()
