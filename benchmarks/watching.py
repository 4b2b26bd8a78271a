"""Measure what telling of attention costs, in time per output token; prints a table.

    python benchmarks/watching.py [--write] [--pairs 200] [--tokens 24] [--ahead 3]

The shape is SmolLM2-135M's, in bfloat16, with random weights: each pass is computed in full. All answers of
a round go on from the same 512 tokens in 16 segments, in turn first, second and so on; each side is compared
with the plain answer of its round. The prompt is read once, its pages serve all answers, and the time from
the first token to the last counts. 32 heads are watched.

- `plain`: the prompt's segments are removed, and nothing is watched.
- `off`: the request says which segments it has, and asks for nothing.
- `summary`: every token tells what it attended to.
- `traces`: with five groups of a profile as well, and each token noted as the server does for a report.

What becomes of a report when its answer has ended, its trace and the trace's rows in a Parquet file, is made
on a thread of the server, which is another process than the engine's. It is told by itself, in microseconds a
token: with cold caches, and for answers as short as these.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from cynosure.core.errors import NotFound
from cynosure.engine import Event, Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import MAX_TOKENS_AHEAD, EngineSettings
from cynosure.engine.watch import WatchSpec
from cynosure.evaluate.results import read_result, write_result
from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    default_heads,
    shares_by_part,
)
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.server.attended.trace_folder import TraceFolder
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper

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
PROMPT_LENGTH, NUM_SEGMENTS, NUM_HEADS, NUM_GROUPS = 512, 16, 32, 5
PROMPT = tuple(3 + (7 * place) % 40_000 for place in range(PROMPT_LENGTH))
OWNERS = tuple(place * NUM_SEGMENTS // PROMPT_LENGTH for place in range(PROMPT_LENGTH))
SIDES = ("plain", "off", "summary", "traces")

_ids = itertools.count()


@dataclass(frozen=True)
class Cost:
    """What a side adds to the time of a token, as a share of it.

    The median over all rounds, its 95% confidence interval by bootstrap, and the quartiles.
    """

    median: float
    low: float
    high: float
    quarter: float
    three_quarters: float


def engine(folder: Path, num_ahead: int = MAX_TOKENS_AHEAD) -> EngineCore:
    """An engine as it is served."""
    graph = load(folder, dtype="bfloat16").graph
    assert isinstance(graph, Decoder)
    settings = EngineSettings(kv_cache_bytes=1 << 28, max_tokens_ahead=num_ahead)
    return EngineCore(graph, (), settings, model_id="shape")


def checkpoint(folder: Path) -> Path:
    """Random weights of the shape."""
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(**SHAPE)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def reading_of(core: EngineCore) -> Reading:
    """The default heads in five groups, over segments of equal length that are the caller's but two."""
    spec = core._runner.graph.spec
    heads = list(default_heads(spec.num_heads, spec.full_layers, NUM_HEADS).heads)
    # Whole layers may leave room: the next layer fills it up.
    layer = max(layer for layer, _ in heads) + 1
    heads += [(layer, head) for head in range(NUM_HEADS - len(heads))]
    weights = np.random.default_rng(1).normal(size=(NUM_GROUPS, NUM_HEADS))
    groups = tuple(HeadGroup(f"group-{n}", tuple(map(float, own))) for n, own in enumerate(weights))
    parts = (
        PromptPart("sink", "sink", "sink"),
        PromptPart("template", "template", "template"),
        *(PromptPart(f"doc:{n}", f"doc:{n}", "document") for n in range(NUM_SEGMENTS - 2)),
    )
    segments = PromptSegments(parts, OWNERS, (None,) * PROMPT_LENGTH)
    return Reading(segments, HeadChoice(tuple(sorted(heads)), "a benchmark", groups), spec.num_heads)


def watch_of(reading: Reading, *, has_groups: bool) -> WatchSpec:
    """What an engine is told of it."""
    folds = tuple(group.weights for group in reading.choice.groups) if has_groups else ()
    return WatchSpec(reading.choice.heads, reading.segments.runs, NUM_SEGMENTS, folds=folds)


class Clerk:
    """Notes tokens as the server does, and keeps a trace of each answer."""

    def __init__(self, reading: Reading, keeper: TraceKeeper) -> None:
        """Note nothing yet."""
        self._reading = reading
        self._keeper = keeper
        self._tokens: list[ReadToken] = []
        self._num_tokens, self._seconds = 0, 0.0

    def note(self, event: TokenEvent) -> None:
        """Put a token down."""
        told = event.attended
        assert told is not None
        shares = shares_by_part(self._reading.segments, told.masses, told.sink, told.entropy_bits)
        at = len(self._tokens)
        self._tokens.append(ReadToken(event.token_id, "a word", 6 * at, event.logprob, shares, told.folds))

    def end(self) -> None:
        """Keep the answer; it is written later, in one go with many others."""
        begun = time.perf_counter()
        name = f"r{next(_ids)}"
        tokens, self._tokens = tuple(self._tokens), []
        report = AttentionReport(
            name, 0, "tenant", "shape", "/v1/completions", time.time(), self._reading, PROMPT, tokens, "stop"
        )
        self._keeper.told(report)
        # Waits until it is looked at, which a server does not.
        self._keeper.settle()
        assert self._keeper.counts.failed == 0
        self._num_tokens += len(tokens)
        self._seconds += time.perf_counter() - begun

    def close(self) -> float:
        """Write all of them; the seconds that a token took, from its report to its file."""
        begun = time.perf_counter()
        self._keeper.close()
        return (self._seconds + time.perf_counter() - begun) / self._num_tokens


def seconds_per_token(
    core: EngineCore,
    num_tokens: int,
    watch: WatchSpec | None,
    segments: tuple[int, ...] | None = OWNERS,
    clerk: Clerk | None = None,
) -> float:
    """Time from the first token of an answer to its last, by token; a clerk keeps the answer behind it."""
    times: list[float] = []
    events: list[Event] = []

    def notify(event: Event) -> None:
        events.append(event)
        if isinstance(event, TokenEvent):
            if clerk is not None:
                clerk.note(event)
            times.append(time.perf_counter())

    params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    core.add(Request(f"r{next(_ids)}", PROMPT, params, watch=watch, segments=segments), notify)
    while core.has_work:
        core.step(time.monotonic())
    assert isinstance(events[-1], Finished)
    told = [event.attended for event in events if isinstance(event, TokenEvent)]
    assert (None not in told) == (watch is not None)
    if clerk is not None:
        clerk.end()
    return (times[-1] - times[0]) / (num_tokens - 1)


def cost(side: Sequence[float], plain: Sequence[float]) -> Cost:
    """Of times of the same rounds, with and without."""
    shares = np.array(side) / np.array(plain) - 1
    dice = np.random.default_rng(0)
    medians = np.median(dice.choice(shares, (4000, len(shares))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    quarter, three_quarters = np.quantile(shares, (0.25, 0.75))
    return Cost(*map(float, (np.median(shares), low, high, quarter, three_quarters)))


def rounds(
    core: EngineCore, count: int, num_tokens: int, folder: Path
) -> tuple[dict[str, list[float]], float]:
    """The times of every side, round by round; and the seconds that keeping a token takes."""
    reading = reading_of(core)
    keeper = TraceKeeper(KeeperSettings(max_kept=2**20, flush_s=1e9, flush_bytes=2**40), TraceFolder(folder))
    clerk = Clerk(reading, keeper)
    summary, grouped = watch_of(reading, has_groups=False), watch_of(reading, has_groups=True)

    def run(side: str) -> float:
        if side == "plain":
            return seconds_per_token(core, num_tokens, None, None)
        if side == "off":
            return seconds_per_token(core, num_tokens, None)
        if side == "summary":
            return seconds_per_token(core, num_tokens, summary)
        return seconds_per_token(core, num_tokens, grouped, clerk=clerk)

    for side in (*SIDES, *SIDES):
        run(side)
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(count):
        first = number % len(SIDES)
        # Both directions: who comes after whom must not matter either.
        order = (*SIDES[first:], *SIDES[:first])[:: 1 if number // len(SIDES) % 2 else -1]
        for side in order:
            times[side].append(run(side))
    return times, clerk.close()


def bytes_per_token() -> dict[str, object]:
    """What a token's trace takes, where that was measured."""
    try:
        measured = read_result("insight_traces").metrics
    except NotFound:
        return {}
    return {"bytes_per_token": measured["bytes_per_token"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=200, help="rounds; each pairs every side with a plain one"
    )
    parser.add_argument("--tokens", type=int, default=24, help="tokens of an answer")
    parser.add_argument("--ahead", type=int, default=MAX_TOKENS_AHEAD, help="tokens decoded ahead at most")
    parser.add_argument("--write", action="store_true", help="write results/insight_watching.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        core = engine(checkpoint(folder), options.ahead)
        times, kept_s = rounds(core, options.pairs, options.tokens, folder / "traces")
    costs = {side: cost(times[side], times["plain"]) for side in SIDES[1:]}
    print(f"{'':<10}{'added to a token':>18}{'95% of its median':>24}{'middle half':>24}")
    for side, one in costs.items():
        print(
            f"{side:<10}{one.median:>18.2%}{one.low:>14.2%} ..{one.high:>7.2%}"
            f"{one.quarter:>14.2%} ..{one.three_quarters:>7.2%}"
        )
    tpot_ms = 1e3 * statistics.median(times["plain"])
    print(f"a token takes {tpot_ms:.2f} ms; beside the engine, keeping its trace {1e6 * kept_s:.0f} us")
    if options.write:
        metrics: dict[str, object] = {
            "overhead_tpot": costs["summary"].median,
            "overhead_tpot_low": costs["summary"].low,
            "overhead_tpot_high": costs["summary"].high,
            "overhead_with_traces": costs["traces"].median,
            "overhead_with_traces_low": costs["traces"].low,
            "overhead_with_traces_high": costs["traces"].high,
            "off_overhead": costs["off"].median,
            "off_overhead_low": costs["off"].low,
            "off_overhead_high": costs["off"].high,
            "kept_us_per_token": 1e6 * kept_s,
            "tpot_ms": tpot_ms,
            "num_pairs": options.pairs,
            "num_heads": NUM_HEADS,
            "num_segments": NUM_SEGMENTS,
            "num_groups": 1 + NUM_GROUPS,
            "max_tokens_ahead": options.ahead,
            **bytes_per_token(),
        }
        write_result("insight_watching", metrics, "python benchmarks/watching.py --write")


if __name__ == "__main__":
    main()
