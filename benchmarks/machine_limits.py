"""Measure what no program on this machine can pass: bytes read, tiles multiplied. Knows nothing of models.

    python -m benchmarks.machine_limits

All cores at once: each reads its share of an array that no cache holds, then multiplies tiles that never
leave their registers (AMX; none elsewhere). The best of several rounds counts: a neighbour only ever takes.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_suffix(".cpp")
READ_BYTES = 1 << 30
TILE_ROUNDS = 3_000_000
ROUNDS = 8


@dataclass(frozen=True)
class Limits:
    """Of all cores together: GB/s read, and tera-operations a second in tiles; None where there are none."""

    read_gb_per_s: float
    bf16_tera_per_s: float | None
    int8_tera_per_s: float | None

    def tera_per_s(self, bits: str) -> float | None:
        """The limit of products in these bits; codes of 4 bits are multiplied as those of 8."""
        return self.bf16_tera_per_s if bits == "bf16" else self.int8_tera_per_s


def best_of(found: Sequence[Limits]) -> Limits:
    """The most that was reached at any time: what a machine does in a bad minute is no limit."""
    bf16 = [limits.bf16_tera_per_s for limits in found if limits.bf16_tera_per_s is not None]
    int8 = [limits.int8_tera_per_s for limits in found if limits.int8_tera_per_s is not None]
    read = max(limits.read_gb_per_s for limits in found)
    return Limits(read, max(bf16, default=None), max(int8, default=None))


def compiled(folder: Path) -> ctypes.CDLL:
    """The loops, compiled for this processor."""
    compiler = shutil.which("c++")
    if compiler is None:
        raise SystemExit("the limits of the machine are measured by C++. Install a compiler (c++).")
    library = folder / "machine_limits.so"
    options = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE)], check=True)
    return ctypes.CDLL(str(library))


def at_once(tasks: list[Callable[[], float]]) -> tuple[float, float]:
    """Run tasks on a thread each; what they return in all, and the seconds from the first to the last."""
    found = [0.0] * len(tasks)
    gate = threading.Barrier(len(tasks) + 1)

    def work(place: int) -> None:
        gate.wait()
        found[place] = tasks[place]()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    gate.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(found), time.perf_counter() - begun


def best_rate(tasks: list[Callable[[], float]], rounds: int) -> float:
    """The most that was done in a second."""
    rates = [done / seconds for done, seconds in (at_once(tasks) for _ in range(rounds))]
    return max(rates)


def reading(library: ctypes.CDLL, num_threads: int, rounds: int) -> float:
    """Bytes a second."""
    array = np.ones(READ_BYTES + 64, dtype=np.uint8)
    start = -array.ctypes.data % 64
    size = READ_BYTES // num_threads // 256 * 256
    library.read_all.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.read_all.restype = ctypes.c_uint64

    def read(thread: int) -> float:
        library.read_all(array.ctypes.data + start + thread * size, size)
        return float(size)

    return best_rate([lambda thread=thread: read(thread) for thread in range(num_threads)], rounds)


def multiplying(library: ctypes.CDLL, name: str, num_threads: int, rounds: int) -> float | None:
    """Operations a second."""
    function = library[name]
    function.argtypes, function.restype = [ctypes.c_int64], ctypes.c_double
    return best_rate([lambda: function(TILE_ROUNDS)] * num_threads, rounds) or None


def measure(num_threads: int | None = None, rounds: int = ROUNDS) -> Limits:
    """All limits: some seconds."""
    num_threads = num_threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(Path(folder))
        tiles = [
            multiplying(library, name, num_threads, rounds) for name in ("multiply_bf16", "multiply_int8")
        ]
        bf16, int8 = (None if rate is None else rate / 1e12 for rate in tiles)
        return Limits(reading(library, num_threads, rounds) / 1e9, bf16, int8)


if __name__ == "__main__":
    print(measure())
