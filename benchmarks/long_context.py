"""Time decoding at long contexts: selected pages against all of them, and pages of codes; prints a table.

    python benchmarks/long_context.py [--write] [--model FOLDER] [--repeats 15] [--threads N]

The call of one layer for one sequence, over pages of 32 keys in a random order, of the shapes of Qwen2.5-0.5B
(14 heads over 2), Llama-3.2-1B (32 over 8), and 9 heads with a K/V head each. Every figure is the
median of interleaved repeats in one process:

- `selection` at 131,072 tokens: microseconds over all pages and over the best 64 and 256, choosing included,
  in bfloat16; `times` is how many times as long all take. Keys are random: it says nothing of recall.
- `bounds_ms`: what a sequence pays once and layer by layer, where the bounds of its pages are not known.
- `int8` at 32,768 tokens: `times` is how many times as long bfloat16 pages take as pages of codes.

With `--model`, a folder that `benchmarks/shapes.py` writes, the same for a whole step of it, weights in int8,
over a cache of random numbers: `step`. The keys of all repeats together are more than caches hold.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cynosure.attention import AttentionPlan, AttentionSpec, Heads, PagedSource, PageScales, attend
from cynosure.attention.native_pages import attend_natively, learn_natively
from cynosure.attention.page_choice import PageChoice
from cynosure.cache import PagedCache
from cynosure.engine.runner import Runner, Work
from cynosure.evaluate.results import write_result
from cynosure.kernels import kernels
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.page_choosing import ChosenPages

BLOCK, WIDTH = 32, 64
LONG, MIDDLE = 131_072, 32_768
NUM_PAGES = (64, 256)
SPREAD_BYTES = 256 << 20  # of keys and values that repeats go round through

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Shape:
    """Query heads over K/V heads of 64 channels."""

    num_heads: int
    num_kv_heads: int


SHAPES = {"14_over_2": Shape(14, 2), "32_over_8": Shape(32, 8), "9_over_9": Shape(9, 9)}


def medians(calls: Calls, repeats: int) -> dict[str, float]:
    """Microseconds of each, interleaved, after a call of each that is not counted."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(taken) for name, taken in times.items()}


def step_of(shape: Shape, num_keys: int) -> tuple[AttentionSpec, torch.Tensor, AttentionPlan]:
    """Return a decoding step of one sequence; its pages lie in a random order."""
    spec = AttentionSpec(Heads.of(shape.num_heads, WIDTH, shape.num_kv_heads))
    plan = AttentionPlan.of_lengths([1], [num_keys])
    table = torch.randperm(num_keys // BLOCK)[None]
    plan = plan.with_keys(replace(plan.keys[0], block_table=table))
    return spec, torch.randn(1, shape.num_heads, WIDTH).bfloat16(), plan


def size_of(shape: Shape, num_keys: int) -> tuple[int, ...]:
    return num_keys // BLOCK, shape.num_kv_heads, BLOCK, WIDTH


def numbers(size: tuple[int, ...]) -> PagedSource:
    return PagedSource(*(torch.randn(size).bfloat16() for _ in "kv"))


def codes(size: tuple[int, ...]) -> PagedSource:
    pages = [torch.randint(-127, 128, size, dtype=torch.int8) for _ in "kv"]
    return PagedSource(*pages, PageScales(*(torch.full(size[:3], 0.02) for _ in "kv")), torch.bfloat16)


def in_turn(make: Callable[[], PagedSource], num_bytes: int) -> Callable[[], PagedSource]:
    """Make so many sources that caches hold none when its turn comes; return the next at each call."""
    sources = [make() for _ in range(max(2, SPREAD_BYTES // num_bytes))]
    turns = iter(range(1 << 40))
    return lambda: sources[next(turns) % len(sources)]


def selection(shape: Shape, repeats: int) -> dict[str, float]:
    """Time all pages of a long sequence and the best of them."""
    spec, q, plan = step_of(shape, LONG)
    size = size_of(shape, LONG)
    source = numbers(size)
    bounds = torch.empty(size[0], shape.num_kv_heads, 2, WIDTH, dtype=torch.bfloat16)
    blocks, none = torch.arange(size[0]), torch.tensor([0])
    start = time.perf_counter()
    learn_natively(source, blocks, bounds)
    learnt_s = time.perf_counter() - start
    choices = {count: PageChoice(bounds, torch.tensor([count]), none) for count in NUM_PAGES}
    calls: dict[str, Callable[[], object]] = {
        "all_us": lambda: attend(spec, q, [source], plan, backend="native")
    }
    for count, choice in choices.items():
        calls[f"{count}_us"] = lambda choice=choice: attend_natively(spec, q, source, plan, choice)
    found = medians(calls, repeats)
    times = {f"{count}_times": found["all_us"] / found[f"{count}_us"] for count in NUM_PAGES}
    return found | times | {"bounds_ms": learnt_s * 1e3}


def int8(shape: Shape, repeats: int) -> dict[str, float]:
    """Time pages of numbers and pages of codes."""
    spec, q, plan = step_of(shape, MIDDLE)
    size = size_of(shape, MIDDLE)
    num_bytes = 2 * torch.Size(size).numel()
    plain, coded = in_turn(lambda: numbers(size), 2 * num_bytes), in_turn(lambda: codes(size), num_bytes)
    calls = {
        "bfloat16_us": lambda: attend(spec, q, [plain()], plan, backend="native"),
        "int8_us": lambda: attend(spec, q, [coded()], plan, backend="native"),
    }
    found = medians(calls, repeats)
    return found | {"times": found["bfloat16_us"] / found["int8_us"]}


def step(folder: Path, repeats: int) -> dict[str, float]:
    """Time whole steps at the end of a long sequence; its keys and values are random."""
    graph = load(str(folder), dtype="bfloat16", quantize="int8").graph
    assert isinstance(graph, Decoder)
    use_kernels(graph, graph.dtype)
    cache = PagedCache(graph.cache_shapes, LONG // BLOCK, graph.dtype)
    for layer in range(len(graph.cache_shapes)):
        for pages in cache.pages(layer):
            pages.normal_()
    runner = Runner(graph, cache, has_page_bounds=True)
    assert not runner.choice_refusal, runner.choice_refusal
    plain = Work((5,), LONG - 1, tuple(range(LONG // BLOCK)), 1)
    calls: dict[str, Callable[[], object]] = {"all_us": lambda: runner.run([plain])}
    for count in NUM_PAGES:
        work = replace(plain, chosen=ChosenPages(count, is_checked=False))
        calls[f"{count}_us"] = lambda work=work: runner.run([work])
    found = medians(calls, repeats)
    return found | {f"{count}_times": found["all_us"] / found[f"{count}_us"] for count in NUM_PAGES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/long_context.json")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a checkpoint of random weights")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        kernels().set_num_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    metrics: dict[str, object] = {"variant": kernels().variant, "threads": kernels().num_threads}
    for part in (selection, int8):
        metrics[part.__name__] = rows = {
            name: part(shape, arguments.repeats) for name, shape in SHAPES.items()
        }
        for name, row in rows.items():
            show(f"{part.__name__} {name}", row)
    if arguments.model is not None:
        metrics["step"] = row = step(arguments.model, arguments.repeats)
        show(f"step of {arguments.model.name}", row)
    if arguments.write:
        write_result("long_context", metrics, "python benchmarks/long_context.py --write --model FOLDER")


def show(name: str, row: Mapping[str, float]) -> None:
    print(f"{name:<20}" + "  ".join(f"{key} {value:.2f}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
