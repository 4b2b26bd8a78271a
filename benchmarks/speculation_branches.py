"""Count what a second or fourth guess beside the first would gain; computes no model, and prints a table.

    python -m benchmarks.speculation_branches [--write] [--tokens 8]

A guess is what followed the last few tokens where they stood before (`engine/speculation.py`). They may have
stood at several places, and gone on differently. Here each task is an answer that is known, and a step gives
as many tokens as the best guess has right, and one.

- last: the last of these places is taken anew at each step;
- 1: the place that was followed so far is followed on, as the engine does;
- 2, 4: so many guesses, each beginning with another token, the latest places behind the first. What they cost
  (their rows in the pass) is left out, so that the gain is the most that branches could bring.

Tasks over modules of Python's standard library, cut into words and pieces of at most four letters:

- quote: a module, then a third of it word for word;
- edit: a module, then all of it with one of its commonest names changed;
- outline: a module, then its `def` and `class` lines.

Two more are the quote and edit of `benchmarks/speculation.py`, whose tokens stand at one place each.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speculation import PROMPT_LENGTH, script_of
from cynosure.engine.speculation import MATCH_SIZES, Drafter
from cynosure.evaluate.results import write_result

MODULES = ("argparse", "heapq", "json.decoder", "shlex", "statistics", "textwrap")
#: How many guesses a step has; 0 stands for one that begins anew each time.
WAYS = {"last": 0, "1": 1, "2": 2, "4": 4}
_PIECES = re.compile(r"\w{1,4}|[^\S\n]+|\n|[^\w\s]")
_LINES = re.compile(r"^[ ]*(?:def|class) .*\n", re.MULTILINE)
#: Longer answers say the same again.
MAX_ANSWER = 4000


@dataclass(frozen=True)
class Task:
    """Tokens of prompt and answer, one behind the other."""

    name: str
    token_ids: Sequence[int]
    prompt_length: int


class BranchDrafter(Drafter):
    """Guesses several ways on, each beginning with another token; width and rests are the chain's."""

    def __init__(self, max_tokens: int, num_branches: int) -> None:
        """Have guessed nothing yet."""
        super().__init__(max_tokens)
        self._num_branches = num_branches
        self._places: dict[tuple[int, ...], list[int]] = {}
        self._num_placed = 0

    def branches(self, token_ids: Sequence[int], limit: int) -> list[tuple[int, ...]]:
        """What may come next; the first is what the engine guesses."""
        if self._num_branches == 0:
            self._place = None
        first = self.draft(token_ids, limit)
        if not first:
            return []
        for end in range(self._num_placed, len(token_ids)):
            for size in MATCH_SIZES:
                if end >= size:
                    self._places.setdefault(tuple(token_ids[end - size : end]), []).append(end)
        self._num_placed = len(token_ids)
        found = {first[0]: first}
        for size in MATCH_SIZES:
            for end in reversed(self._places.get(tuple(token_ids[-size:]), [])):
                if len(found) >= self._num_branches:
                    return [*found.values()]
                found.setdefault(token_ids[end], tuple(token_ids[end : end + len(first)]))
        return [*found.values()]


@dataclass(frozen=True)
class Count:
    """What one task took: tokens of its answer, steps, and steps in which only a later guess was right."""

    num_tokens: int
    num_steps: int
    num_rescued: int

    @property
    def tokens_per_step(self) -> float:
        """How many tokens a step gave."""
        return self.num_tokens / self.num_steps


def counted(task: Task, num_branches: int, max_tokens: int) -> Count:
    """Go through an answer step by step."""
    drafter = BranchDrafter(max_tokens, num_branches)
    known, num_steps, num_rescued = task.prompt_length, 0, 0
    while known < len(task.token_ids):
        left = len(task.token_ids) - known - 1
        ways = drafter.branches(task.token_ids[:known], left)
        right = [_num_right(way, task.token_ids[known:]) for way in ways]
        if ways:
            drafter.learn(len(ways[0]), min(max(right), len(ways[0])))
            num_rescued += right[0] == 0 and max(right) > 0
        known += 1 + max(right, default=0)
        num_steps += 1
    return Count(len(task.token_ids) - task.prompt_length, num_steps, num_rescued)


def _num_right(guess: Sequence[int], told: Sequence[int]) -> int:
    for place, (one, other) in enumerate(zip(guess, told, strict=False)):
        if one != other:
            return place
    return min(len(guess), len(told))


def tasks() -> Iterator[Task]:
    """All tasks; ids are numbered as the pieces come."""
    for kind in ("quote", "edit"):
        yield Task(f"random_{kind}", script_of(kind), PROMPT_LENGTH)
    for module in MODULES:
        text = _source(module)
        third = len(text) // 3
        yield _task("quote", text, text[third : 2 * third])
        yield _task("edit", text, re.sub(rf"\b{_common_name(text)}\b", "renamed_value", text))
        yield _task("outline", text, "".join(_LINES.findall(text)))


def _task(name: str, prompt: str, answer: str) -> Task:
    numbers: dict[str, int] = {}
    ids = [
        [numbers.setdefault(piece, len(numbers)) for piece in _PIECES.findall(text)]
        for text in (prompt, answer)
    ]
    return Task(name, [*ids[0], *ids[1][:MAX_ANSWER]], len(ids[0]))


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _common_name(text: str) -> str:
    """The commonest name of six letters or more."""
    [(name, _)] = Counter(re.findall(r"\b[a-z_]{6,}\b", text)).most_common(1)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/speculation_branches.json")
    parser.add_argument("--tokens", type=int, default=8, help="guessed ahead at most")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    by_name: dict[str, list[Task]] = {}
    for task in tasks():
        by_name.setdefault(task.name, []).append(task)
    print(f"{'task':14}" + "".join(f"{way:>8}" for way in WAYS) + "   gain of 2, of 4")
    for name, group in by_name.items():
        rates = {}
        for way, count in WAYS.items():
            found = [counted(task, count, arguments.tokens) for task in group]
            num_steps = sum(one.num_steps for one in found)
            rates[way] = figures[f"{name}_{way}_tokens_per_step"] = (
                sum(one.num_tokens for one in found) / num_steps
            )
            figures[f"{name}_{way}_rescued"] = sum(one.num_rescued for one in found) / num_steps
        gains = [rates[way] / rates["1"] - 1 for way in ("2", "4")]
        figures[f"{name}_2_gain"], figures[f"{name}_4_gain"] = gains
        print(
            f"{name:14}"
            + "".join(f"{rate:8.2f}" for rate in rates.values())
            + "".join(f"{gain:8.1%}" for gain in gains)
        )
    if arguments.write:
        write_result("speculation_branches", figures, "python -m benchmarks.speculation_branches --write")


if __name__ == "__main__":
    main()
