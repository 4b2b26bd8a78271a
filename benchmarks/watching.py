"""Measure what telling of attention costs, in time per output token; prints a table.

    python benchmarks/watching.py [--write] [--pairs 200] [--tokens 20]

The shape is SmolLM2-135M's, in bfloat16, with random weights: each pass is computed in full. Both answers of
a pair, one watched and one not, go on from the same 512 tokens in 16 segments; each comes first in turn. The
prompt is read once, its pages serve all answers, and the time from the first token to the last counts. 32
heads are watched. `off` compares requests that say nothing of attention in two engines that differ in
nothing: the noise of the machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers

from cynosure.engine import Event, Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import WatchSpec
from cynosure.evaluate.results import write_result
from cynosure.insight import default_heads
from cynosure.models.decoder import Decoder
from cynosure.models.load import load

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
PROMPT_LENGTH, NUM_SEGMENTS, NUM_HEADS = 512, 16, 32

_ids = itertools.count()


@dataclass(frozen=True)
class Cost:
    """What watching adds to the time of a token, as a share of it: median and quartiles of all pairs."""

    median: float
    low: float
    high: float


def engine(folder: Path) -> EngineCore:
    """An engine as it is served."""
    graph = load(folder, dtype="bfloat16").graph
    assert isinstance(graph, Decoder)
    return EngineCore(graph, (), EngineSettings(kv_cache_bytes=1 << 28), model_id="shape")


def checkpoint(folder: Path) -> Path:
    """Random weights of the shape."""
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(**SHAPE)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def watch_of(core: EngineCore) -> WatchSpec:
    """The default heads, and segments of equal length."""
    spec, size = core._runner.graph.spec, PROMPT_LENGTH // NUM_SEGMENTS
    runs = tuple((n, n * size, (n + 1) * size) for n in range(NUM_SEGMENTS))
    choice = default_heads(spec.num_heads, spec.full_layers, NUM_HEADS)
    heads = list(choice.heads)
    # Whole layers may leave room: the next layer fills it up.
    layer = max(layer for layer, _ in heads) + 1
    heads += [(layer, head) for head in range(NUM_HEADS - len(heads))]
    return WatchSpec(tuple(sorted(heads)), runs, NUM_SEGMENTS)


def seconds_per_token(core: EngineCore, num_tokens: int, watch: WatchSpec | None) -> float:
    """Time from the first token of an answer to its last, by token."""
    times: list[float] = []
    events: list[Event] = []

    def notify(event: Event) -> None:
        events.append(event)
        if isinstance(event, TokenEvent):
            times.append(time.perf_counter())

    prompt = tuple(3 + (7 * place) % 40_000 for place in range(PROMPT_LENGTH))
    params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    core.add(Request(f"r{next(_ids)}", prompt, params, watch=watch), notify)
    while core.has_work:
        core.step(time.monotonic())
    assert isinstance(events[-1], Finished)
    told = [event.attended for event in events if isinstance(event, TokenEvent)]
    assert (told[0] is not None) == (watch is not None)
    return (times[-1] - times[0]) / (num_tokens - 1)


def cost(pairs: list[tuple[float, float]]) -> Cost:
    """Of pairs of times, with and without."""
    shares = sorted(with_it / without - 1 for with_it, without in pairs)
    low, median, high = statistics.quantiles(shares, n=4)
    return Cost(median, low, high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200, help="answers with and without")
    parser.add_argument("--tokens", type=int, default=20, help="tokens of an answer")
    parser.add_argument("--write", action="store_true", help="write results/watching.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(Path(folder))
        core, other = engine(path), engine(path)
        watch = watch_of(core)
        every = replace(watch, every=8)
        sides = {"summary": watch, "every_8": every, "off": None}
        for one in (core, other):
            seconds_per_token(one, options.tokens, watch)
        pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        plain: list[float] = []
        for number in range(options.pairs):
            for name, side in sides.items():
                runs = {True: (other if name == "off" else core, side), False: (core, None)}
                order = (True, False) if number % 2 else (False, True)
                times = {
                    is_side: seconds_per_token(runs[is_side][0], options.tokens, runs[is_side][1])
                    for is_side in order
                }
                pairs[name].append((times[True], times[False]))
                plain.append(times[False])
    print(f"{'':<10}{'added to a token':>18}{'middle half':>22}")
    found = {name: cost(times) for name, times in pairs.items()}
    for name, one in found.items():
        print(f"{name:<10}{one.median:>18.2%}{one.low:>12.2%} ..{one.high:>8.2%}")
    print(f"a token takes {1e3 * statistics.median(plain):.2f} ms")
    if options.write:
        metrics = {
            "overhead_tpot": found["summary"].median,
            "overhead_tpot_low": found["summary"].low,
            "overhead_tpot_high": found["summary"].high,
            "overhead_every_8": found["every_8"].median,
            "overhead_off": found["off"].median,
            "tpot_ms": 1e3 * statistics.median(plain),
            "num_pairs": options.pairs,
            "num_heads": NUM_HEADS,
            "num_segments": NUM_SEGMENTS,
        }
        write_result("watching", metrics, "python benchmarks/watching.py --write")


if __name__ == "__main__":
    main()
