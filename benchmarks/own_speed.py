"""Compare our engine with itself: codes of keys and values, known prefixes, guessing ahead. Knows no peer.

    python -m benchmarks.own_speed [--write] [--quick] [--shape qwen2.5-0.5b] [--part warm_prefix]

Weights in int8, all in one process, parts in turn; medians of interleaved repeats. `--write` merges rows into
results/cpu_speed.json:

- long_context: decoding behind 32,000 tokens, with keys and values in int8 and in bfloat16;
- warm_prefix: milliseconds to the first token of a prompt whose beginning of 1k to 16k tokens is known, and
  16 tokens of which are new, with the number of tokens that were computed for it;
- prompt_lookup: decoding an answer that quotes its prompt, or quotes it with one token in 16 changed, with
  guessing ahead and without (a script stands in for what a trained model would say).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.engine_child import InProcess
from benchmarks.shapes import SHAPES, write_checkpoint
from benchmarks.speculation import ScriptedRunner, paced, script_of
from benchmarks.speed_rows import Row, Rows, key_of, lines_of, write_rows
from cynosure.engine.settings import EngineSettings

BITS = "int8"
LONG, WINDOW_STEPS = 32_000, 8
PREFIXES = (1024, 2048, 4096, 8192, 16384)
NUM_NEW = 16
KV_BYTES = 2 << 30


def settings(**more: object) -> EngineSettings:
    """Large steps, as when peers are compared with; and room for long prompts."""
    plain = {"max_num_batched_tokens": 2048, "chunk_size": 2048, "kv_cache_bytes": KV_BYTES}
    return EngineSettings(**{"has_prefix_cache": False, **plain, **more})


def longest(ours: InProcess, wanted: int, room: int) -> int:
    """As many tokens as are wanted, or as the model takes."""
    limit = ours.graph.spec.max_model_len
    return wanted if limit is None else min(wanted, limit - room)


def long_context(folder: Path, repeats: int) -> Row:
    """Decode behind a long prompt, in windows that take turns; the prompts are read once."""
    engines = {
        dtype: InProcess(folder, BITS, settings(kv_cache_dtype=dtype)) for dtype in ("bfloat16", "int8")
    }
    room = WINDOW_STEPS * (repeats + 2)
    for ours in engines.values():
        ours.add("long", ours.random_prompt(longest(ours, LONG, room)), room)
        while not ours.num_told:
            ours.step()
    rates: dict[str, list[float]] = {dtype: [] for dtype in engines}
    for _ in range(repeats + 1):
        for dtype, ours in engines.items():
            begun = time.perf_counter()
            for _ in range(WINDOW_STEPS):
                ours.step()
            rates[dtype].append(WINDOW_STEPS / (time.perf_counter() - begun))
    codes, plain = (statistics.median(rates[dtype][1:]) for dtype in ("int8", "bfloat16"))
    length = longest(engines["int8"], LONG, room)
    return {"tokens": length, "int8_kv": codes, "bf16_kv": plain, "ratio": codes / plain}


def warm_prefix(ours: InProcess, repeats: int) -> dict[str, Row]:
    """The first token of prompts with known beginnings, by the length of these; the longest first."""
    base = ours.random_prompt(longest(ours, max(PREFIXES), NUM_NEW + 1))
    first_token(ours, base)
    rows: dict[str, Row] = {}
    for length in [length for length in PREFIXES if length <= len(base)]:
        runs = [first_token(ours, (*base[:length], *ours.random_prompt(NUM_NEW))) for _ in range(repeats + 1)]
        computed = {num_computed for _, num_computed in runs}
        assert len(computed) == 1, f"{computed} tokens were computed for one length"
        took = statistics.median(seconds for seconds, _ in runs[1:])
        rows[str(length)] = {"first_token_ms": 1e3 * took, "computed_tokens": computed.pop()}
    return rows


def first_token(ours: InProcess, prompt: Sequence[int]) -> tuple[float, int]:
    """Seconds to it, and tokens of the prompt that were computed for it."""
    ours.num_told = ours.num_cached = 0
    begun = time.perf_counter()
    ours.add("first", tuple(prompt), 1)
    while not ours.num_told:
        ours.step()
    return time.perf_counter() - begun, len(prompt) - ours.num_cached


def prompt_lookup(folder: Path, repeats: int) -> dict[str, Row]:
    """One client, a scripted answer, with and without guessing, in turn."""
    ours = InProcess(folder, BITS, settings(num_speculative_tokens=8))
    runner = ours.core._runner = ScriptedRunner(ours.graph, ours.core.cache)
    rows: dict[str, Row] = {}
    for kind in ("quote", "edit"):
        runner.script = script_of(kind)
        rates: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(repeats + 1):
            for is_guessed in (False, True):
                pace = paced(ours.core, runner.script, 1, speculation=is_guessed)
                rates[is_guessed].append(pace.tokens_per_s)
        plain, guessed = (statistics.median(rates[is_guessed][1:]) for is_guessed in (False, True))
        rows[kind] = {"plain": plain, "with_lookup": guessed, "ratio": guessed / plain}
    return rows


Part = Callable[[Path, str, int], Rows]

PARTS: dict[str, Part] = {
    "long_context": lambda folder, key, repeats: {"long_context": {key: long_context(folder, repeats)}},
    "warm_prefix": lambda folder, key, repeats: {
        f"warm_prefix_{key}": warm_prefix(InProcess(folder, BITS, settings(has_prefix_cache=True)), repeats)
    },
    "prompt_lookup": lambda folder, key, repeats: {f"prompt_lookup_{key}": prompt_lookup(folder, repeats)},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="merge rows into results/cpu_speed.json")
    parser.add_argument("--quick", action="store_true", help="once: a first impression")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--part", choices=PARTS, action="append", help="repeatable (all)")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(SHAPES[arguments.shape], Path(scratch) / "checkpoint")
        for name in arguments.part or PARTS:
            rows = PARTS[name](folder, key_of(arguments.shape, BITS), repeats)
            print("\n".join(lines_of(rows)), flush=True)
            if arguments.write:
                print(write_rows(rows, {"own_repeats": {"repeats": repeats}}), flush=True)


if __name__ == "__main__":
    main()
