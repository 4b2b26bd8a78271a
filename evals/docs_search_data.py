"""Read the questions that the search is judged by, and measure rankings. Ranks nothing itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cynosure.retrieval.search import DocsSearch

DATA = Path(__file__).parent / "data"
DEPTH = 10


@dataclass(frozen=True)
class Question:
    """A question, and the names that answer it; none where the documentation can't."""

    id: str
    question: str
    answers: tuple[str, ...] = ()


def read_questions(kind: str, split: str) -> list[Question]:
    """Read `questions` or `unanswerable` of a split; the FAQ has none of the latter."""
    if split == "faq":
        path = DATA / "faq_questions_test.jsonl"
        lines = path.read_text().splitlines() if kind == "questions" else []
    else:
        lines = (DATA / f"docs_{kind}_{split}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(row["id"], row["question"], tuple(row.get("answers", ()))) for row in rows]


def relevant(search: DocsSearch, question: Question) -> frozenset[int]:
    """Positions of the entries that answer a question, under any of their names."""
    wanted = set(question.answers)
    entries = search.store.contents.entries
    return frozenset(n for n, e in enumerate(entries) if wanted & {e.name, *e.aliases})


def reciprocal_rank(ranking: Sequence[int], wanted: AbstractSet[int], depth: int = DEPTH) -> float:
    """One over the place of the first wanted entry among the first `depth`; 0 where there is none."""
    return next((1 / place for place, entry in enumerate(ranking[:depth], 1) if entry in wanted), 0.0)


def ranked(scores: Float32[np.ndarray, " entries"], depth: int = DEPTH) -> list[int]:
    """The best entries, best first; what a BM25 of 0 says nothing of is left out."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return [int(place) for place in order if scores[place] != 0]


def quality(rankings: Sequence[Sequence[int]], wanted: Sequence[AbstractSet[int]]) -> dict[str, float]:
    """MRR@10, recall@5 (an acceptable answer among the first five) and top-1."""
    places = [reciprocal_rank(ranking, answers) for ranking, answers in zip(rankings, wanted, strict=True)]
    return {
        "mrr10": float(np.mean(places)),
        "recall5": float(np.mean([place >= 1 / 5 for place in places])),
        "top1": float(np.mean([place == 1 for place in places])),
    }
