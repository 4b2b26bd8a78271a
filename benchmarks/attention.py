"""Compare the native attention kernels with torch's fused one and with plain tiles; prints a table.

    python -m benchmarks.attention [--write] [--repeats 9] [--threads N]

One layer over pages of 32 keys, in bfloat16, of the shapes of Qwen2.5-0.5B (14 heads over 2) and Llama-3.2-1B
(32 over 8). Every figure is the median of interleaved repeats in one process:

- `native_us`: microseconds of one call of `attend`, and beside it how many times as long the others take;
- `watched`: the call that also counts 16 segments and the entropy, over the one that does not;
- `int8_cache`: the call over bfloat16 pages, over the one over codes: above 1 codes are faster;
- `python_us`: the same call over a single key of one sequence, most of which is Python.

The keys of all repeats together are more than the caches of the processor hold, as the layers of a model are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cynosure.attention import AttentionPlan, AttentionSpec, Heads, PagedSource, PageScales, Watch, attend
from cynosure.evaluate.results import write_result
from cynosure.kernels import kernels

BLOCK = 32
PEERS = ("sdpa", "tiled")
NUM_SEGMENTS = 16
SPREAD_BYTES = 256 << 20  # of keys and values that repeats go round through


@dataclass(frozen=True)
class Shape:
    """One call: heads of 64 channels, sequences of one length, queries that are the last of their keys."""

    num_heads: int
    num_kv_heads: int
    num_queries: int
    num_keys: int
    num_seqs: int = 1


SHAPES = {
    "decode 512": Shape(14, 2, 1, 512),
    "decode 4096": Shape(14, 2, 1, 4096),
    "decode 32768": Shape(14, 2, 1, 32768),
    "decode 512 x 32": Shape(14, 2, 1, 512, 32),
    "decode 4096, 1B": Shape(32, 8, 1, 4096),
    "prefill 512": Shape(14, 2, 512, 512),
    "prefill 4096": Shape(14, 2, 4096, 4096),
    "chunk 256 of 4096": Shape(14, 2, 256, 4096),
}


class Layers:
    """Sources of one shape that are gone through in turn, and the plan that all share."""

    def __init__(self, shape: Shape, *, has_codes: bool = False) -> None:
        blocks = -(-shape.num_keys // BLOCK)
        segments = [[key * NUM_SEGMENTS // shape.num_keys for key in range(shape.num_keys)]] * shape.num_seqs
        plan = AttentionPlan.of_lengths(
            [shape.num_queries] * shape.num_seqs, [shape.num_keys] * shape.num_seqs, segments=segments
        )
        table = torch.randperm(blocks * shape.num_seqs).reshape(shape.num_seqs, blocks)
        self.watched = plan.with_keys(replace(plan.keys[0], block_table=table))
        # Segments are left out where nobody asks: torch's kernel would be called once for each.
        self.plan = replace(
            self.watched, num_segments=0, keys=(replace(self.watched.keys[0], segments=None),)
        )
        self.spec = AttentionSpec(Heads.of(shape.num_heads, 64, shape.num_kv_heads))
        self.q = torch.randn(shape.num_queries * shape.num_seqs, shape.num_heads, 64).bfloat16()
        size = (blocks * shape.num_seqs, shape.num_kv_heads, BLOCK, 64)
        num_layers = max(1, min(24, SPREAD_BYTES // (4 * torch.Size(size).numel())))
        make = self._codes if has_codes else self._numbers
        self.sources = [make(size) for _ in range(num_layers)]
        self._next = 0

    def _numbers(self, size: tuple[int, ...]) -> PagedSource:
        return PagedSource(*(torch.randn(size).bfloat16() for _ in "kv"))

    def _codes(self, size: tuple[int, ...]) -> PagedSource:
        codes = [torch.randint(-127, 128, size, dtype=torch.int8) for _ in "kv"]
        scales = PageScales(*(torch.full(size[:3], 0.02) for _ in "kv"))
        return PagedSource(*codes, scales, torch.bfloat16)

    def call(self, backend: str = "native", watch: Watch | None = None) -> None:
        """Attend in the next layer."""
        self._next = (self._next + 1) % len(self.sources)
        plan = self.plan if watch is None else self.watched
        attend(self.spec, self.q, [self.sources[self._next]], plan, watch=watch, backend=backend)


def medians(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Seconds of each, interleaved; short calls are repeated to a tenth of a second."""
    counts = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[name] = max(1, min(500, int(0.1 / (time.perf_counter() - start + 1e-6))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            times[name].append((time.perf_counter() - start) / counts[name])
    return {name: statistics.median(values) for name, values in times.items()}


def measure(shape: Shape, repeats: int) -> dict[str, float]:
    """Return the row of one shape."""
    layers, codes = Layers(shape), Layers(shape, has_codes=True)
    calls: dict[str, Callable[[], None]] = {
        name: lambda name=name: layers.call(name) for name in ("native", *PEERS)
    }
    calls["watched"] = lambda: layers.call(watch=Watch(entropy=True))
    calls["codes"] = codes.call
    found = medians(calls, repeats)
    ours = found["native"]
    row = {"native_us": ours * 1e6} | {f"{name}_ratio": found[name] / ours for name in PEERS}
    return row | {"watched": found["watched"] / ours, "int8_cache": ours / found["codes"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/attention.json")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        kernels().set_num_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    metrics: dict[str, object] = {"variant": kernels().variant, "threads": kernels().num_threads}
    for name, shape in SHAPES.items():
        row = measure(shape, arguments.repeats)
        print(f"{name:<20}" + "".join(f"{key} {value:<10.2f}" for key, value in row.items()), flush=True)
        metrics[name.replace(" ", "_").replace(",", "")] = row
    single = Layers(Shape(14, 2, 1, 1))
    metrics["python_us"] = medians({"native": single.call}, arguments.repeats)["native"] * 1e6
    print(f"one key: {metrics['python_us']:.1f} us")
    if arguments.write:
        write_result("attention", metrics, "python -m benchmarks.attention --write")


if __name__ == "__main__":
    main()
