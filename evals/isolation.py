"""Ask whether one API key can learn what another key sent, by the clock or by the usage. Opens no cache.

    python evals/isolation.py [--write] [--repeats 40]

A server with two keys serves a random-weight checkpoint of a real shape. Each repeat draws prompts that
nobody has sent, and times the first token of three requests, in an order drawn anew:

- `new`: a prompt that nobody knows;
- `other`: a prompt that the other key has just sent: as slow as a new one, and none of it cached;
- `same`: a prompt that the same key has just sent. It is the control: it must be faster, and say so.

Another request comes just before each, so that the server is as warm for all of them. Times are compared by
ranks (`evaluate/two_samples.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cynosure.evaluate.event_stream import EventStream
from cynosure.evaluate.results import write_result
from cynosure.evaluate.server_process import ServerProcess, serve
from cynosure.evaluate.two_samples import p_value, share_below

COMMAND = "python evals/isolation.py --write"
SHAPES = Path(__file__).parents[1] / "benchmarks" / "shapes.py"
SHAPE = "smollm2-135m"
KEYS = {"anna": "key-of-anna-0123456789", "ben": "key-of-ben-0123456789"}
PROMPT_LENGTH = 256
BLOCK_SIZE = 32
#: Below it times are said to differ; above it they are not told apart.
ALPHA = 0.01
#: What a control must reach.
CONTROL_ALPHA = 0.001


@dataclass
class Arm:
    """One kind of request: times to the first token in seconds, and cached tokens."""

    first_token_s: list[float] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)


def new_prompt(dice: random.Random) -> str:
    """A prompt of so many tokens: each letter is one."""
    return "".join(dice.choices(string.ascii_letters, k=PROMPT_LENGTH))


async def ask(url: str, who: str, prompt: str) -> tuple[float, int]:
    """Seconds to the first token of an answer, and how many tokens of the prompt were cached."""
    body = {"model": "m", "prompt": prompt, "max_tokens": 2, "ignore_eos": True, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
    begun, first_s, cached = time.perf_counter(), 0.0, -1
    stream = await EventStream.open(f"{url}/v1/completions", body, {"Authorization": f"Bearer {KEYS[who]}"})
    assert stream.status == 200, await stream.read()
    async for event in stream.events():
        first_s = first_s or event.at_s - begun
        if '"usage"' in event.data and event.json.get("usage"):
            cached = event.json["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert first_s > 0
    assert cached >= 0
    return first_s, cached


async def trials(url: str, repeats: int) -> dict[str, Arm]:
    """Run the repeats, and one before them that is not counted."""
    dice = random.Random(0)
    arms = {name: Arm() for name in ("new", "other", "same")}
    for repeat in range(repeats + 1):
        for name in dice.sample(sorted(arms), len(arms)):
            first, again = new_prompt(dice), new_prompt(dice)
            await ask(url, "anna" if name != "same" else "ben", first)
            taken, cached = await ask(url, "ben", again if name == "new" else first)
            if repeat:
                arms[name].first_token_s.append(taken)
                arms[name].cached.append(cached)
    return arms


def metrics_of(arms: dict[str, Arm]) -> dict[str, object]:
    """What `results/isolation.json` holds."""
    new = arms["new"].first_token_s
    metrics: dict[str, object] = {"repeats": len(new), "prompt_tokens": PROMPT_LENGTH}
    for name, arm in arms.items():
        metrics[f"{name}_first_token_s"] = statistics.median(arm.first_token_s)
        metrics[f"{name}_min_cached"] = min(arm.cached)
        metrics[f"{name}_max_cached"] = max(arm.cached)
    for name in ("other", "same"):
        metrics[f"{name}_p_value"] = p_value(arms[name].first_token_s, new)
        metrics[f"{name}_share_below_new"] = share_below(arms[name].first_token_s, new)
    return metrics


def is_isolated(metrics: dict[str, object]) -> bool:
    """Whether the other key is not told apart from nobody, while the same key is."""
    # A hit leaves a token to compute, and is made of whole pages.
    hit = (PROMPT_LENGTH - 1) // BLOCK_SIZE * BLOCK_SIZE
    counts = [metrics[f"{name}_max_cached"] for name in ("new", "other")]
    other, same = metrics["other_p_value"], metrics["same_p_value"]
    assert isinstance(other, float)
    assert isinstance(same, float)
    return counts == [0, 0] and metrics["same_min_cached"] == hit and other >= ALPHA and same <= CONTROL_ALPHA


def serve_keys(folder: Path, scratch: Path, options: list[str]) -> ServerProcess:
    """A server for two keys, ready."""
    keys = {"CYNOSURE_API_KEYS": ",".join(f"{name}:{key}" for name, key in KEYS.items())}
    server = serve([f"m={folder}", *options], scratch, keys)
    server.wait_until_ready(headers={"Authorization": f"Bearer {KEYS['anna']}"})
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write results/isolation.json")
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / SHAPE
        subprocess.run([sys.executable, str(SHAPES), SHAPE, str(folder)], check=True)
        with serve_keys(folder, Path(scratch), []) as server:
            metrics = metrics_of(asyncio.run(trials(server.url, arguments.repeats)))
    for name, value in metrics.items():
        print(f"{name:<24}{value:>12.4f}" if isinstance(value, float) else f"{name:<24}{value:>12}")
    if arguments.write:
        print(write_result("isolation", metrics, COMMAND))
    sys.exit(0 if is_isolated(metrics) else 1)


if __name__ == "__main__":
    main()
