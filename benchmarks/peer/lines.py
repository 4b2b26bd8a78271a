"""Answer measurements asked on standard input, a line of JSON each. Needs nothing installed.

Every program that is compared speaks so, ours included, each in a process and an environment of its own:

    > 16 24 64                                    so many sequences, steps, and tokens of each before
    < {"prefill": 1210.5, "decode": 350.2}        tokens a second of all together

The first line, unasked, is `{"ready": NAME, ...}`. A line that is no JSON is the noise of some library.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

#: Steps that are run before those that count.
WARM_STEPS = 3

#: Sequences, steps, and tokens of each before: tokens a second of reading, and of writing.
Run = Callable[[int, int, int], tuple[float, float]]


def answer(name: str, run: Run, **told: float) -> None:
    """Say who is there and what is to be known of it, then measure until nobody asks any more."""
    print(json.dumps({"ready": name, **told}), flush=True)
    for line in sys.stdin:
        num_seqs, num_steps, length = map(int, line.split())
        prefill, decode = run(num_seqs, num_steps, length)
        print(json.dumps({"prefill": prefill, "decode": decode}), flush=True)


def rates(num_seqs: int, num_steps: int, length: int, stamps: list[float]) -> tuple[float, float]:
    """Tokens a second, from the moments of the start, of the first tokens, and of the end of every step."""
    prefill = num_seqs * length / (stamps[1] - stamps[0])
    steps = stamps[1 + WARM_STEPS :]
    assert len(steps) == num_steps + 1, f"{len(steps) - 1} steps were timed; {num_steps} were asked for"
    return prefill, num_seqs * num_steps / (steps[-1] - steps[0])
