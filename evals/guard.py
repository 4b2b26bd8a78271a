"""Score the guard on labelled texts, by kind, and time it. Knows nothing of tuning.

    python evals/guard.py [--write] [--show]

`evals/data/guard_cases.jsonl` marks what must be found: `⟦card:4111 1111 1111 1111⟧`. A `¦` inside a secret
is removed on reading; it keeps scanners of repositories from taking test data for leaks. The cases were
written before the detectors; those of the split `dev` were looked at while tuning, those of `heldout` not.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cynosure.evaluate.results import write_result
from cynosure.guard import Action, Kind, Rules, StreamFilter, check
from cynosure.retrieval.python_docs import read_python_docs
from cynosure.server.guarded.tokens import TokenFilter
from cynosure.server.services import Token

CASES = Path(__file__).parent / "data" / "guard_cases.jsonl"
SPLITS = ("dev", "heldout")
PIECE = 4
_MARKED = re.compile(r"⟦(\w+):(.*?)⟧", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A text, and what must be found in it: kind, start and end."""

    id: str
    split: str
    text: str
    wanted: tuple[tuple[str, int, int], ...]


def read_cases(path: Path = CASES) -> list[Case]:
    """Read the labelled texts."""
    return [_case(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _case(row: dict[str, str]) -> Case:
    marked = row["text"].replace("¦", "")
    text, wanted, at = "", [], 0
    for found in _MARKED.finditer(marked):
        text += marked[at : found.start()]
        wanted.append((found[1], len(text), len(text) + len(found[2])))
        text += found[2]
        at = found.end()
    return Case(row["id"], row["split"], text + marked[at:], tuple(wanted))


def score(cases: list[Case], is_shown: bool = False) -> dict[str, dict[str, float | int | None]]:
    """Precision and recall by kind: a finding counts where it overlaps a label; `exact` counts equal ones."""
    hits, exact, missed, wrong = Counter(), Counter(), Counter(), Counter()
    for case in cases:
        found = {
            (f.kind.value, f.start, f.end) for f in check(case.text, Rules.every(Action.REDACT)).findings
        }
        met = {label for label in case.wanted if any(_overlap(label, each) for each in found)}
        stray = {each for each in found if not any(_overlap(label, each) for label in case.wanted)}
        hits.update(kind for kind, _, _ in met)
        exact.update(kind for kind, _, _ in set(case.wanted) & found)
        missed.update(kind for kind, _, _ in set(case.wanted) - met)
        wrong.update(kind for kind, _, _ in stray)
        if is_shown and set(case.wanted) != found:
            print(f"{case.id}: {case.text[:90]!r} wanted {case.wanted} found {sorted(found)}")
    return {kind.value: _rates(kind, hits, exact, missed, wrong) for kind in Kind}


def _rates(
    kind: str, hits: Counter[str], exact: Counter[str], missed: Counter[str], wrong: Counter[str]
) -> dict[str, float | int | None]:
    named, wanted = hits[kind] + wrong[kind], hits[kind] + missed[kind]
    return {
        "precision": hits[kind] / named if named else None,
        "recall": hits[kind] / wanted if wanted else None,
        "labels": wanted,
        "exact": exact[kind],
        "missed": missed[kind],
        "wrong": wrong[kind],
    }


def _overlap(a: tuple[str, int, int], b: tuple[str, int, int]) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def on_documentation() -> dict[str, object]:
    """What is found in the interpreter's documentation, where only addresses can be true, and how fast."""
    texts = [entry.doc for entry in read_python_docs().entries]
    found, begun = Counter(), time.perf_counter()
    for text in texts:
        found.update(f.kind.value for f in check(text, Rules.every(Action.REDACT)).findings)
    size, whole = sum(map(len, texts)), time.perf_counter() - begun
    begun = time.perf_counter()
    stream = StreamFilter(Rules.every(Action.REDACT))
    pieces = [text[at : at + PIECE] for text in texts[:600] for at in range(0, len(text), PIECE)]
    for piece in pieces:
        stream.push(piece)
    streamed = time.perf_counter() - begun
    return {
        "characters": size,
        "found": {kind.value: found[kind.value] for kind in Kind},
        "megabytes_per_s": size / whole / 1e6,
        "microseconds_per_piece": streamed / len(pieces) * 1e6,
        "microseconds_per_token": per_token(pieces) * 1e6,
    }


def per_token(pieces: list[str]) -> float:
    """Seconds that a token of an answer costs in the server, under the default policy."""
    tokens = [Token(piece, token_id=at) for at, piece in enumerate(pieces)]
    screen = TokenFilter(Rules(), lambda mark: 0)
    begun = time.perf_counter()
    for token in tokens:
        screen.push(token)
    return (time.perf_counter() - begun) / len(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write results/guard.json")
    parser.add_argument(
        "--show", action="store_true", help="show the cases of dev that are not exactly right"
    )
    asked = parser.parse_args()
    cases = read_cases()
    metrics: dict[str, object] = {"cases": len(cases)}
    for split in SPLITS:
        chosen = [case for case in cases if case.split == split]
        rates = score(chosen, asked.show and split == "dev")
        metrics[split] = rates
        metrics[f"{split}_cases"] = len(chosen)
        metrics[f"{split}_without_label"] = sum(not case.wanted for case in chosen)
        print(f"{split}: {len(chosen)} texts")
        for kind, rate in rates.items():
            print(f"  {kind:7}", "  ".join(f"{name} {_shown(value)}" for name, value in rate.items()))
    metrics["documentation"] = on_documentation()
    print("documentation:", metrics["documentation"])
    if asked.write:
        print(write_result("guard", metrics, "python evals/guard.py --write"))


def _shown(value: float | int | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
