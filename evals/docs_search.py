"""Ask the interpreter's documentation held-out questions and score the answers. Knows nothing of tuning.

    python evals/docs_search.py [--set heldout|test|dev] [--write]

Prints MRR@10, recall@5 and top-1 of BM25, of the embedder and of the two fused, then how often nothing was
found where something was asked that the documentation can answer, and where it can't.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from cynosure.core.errors import IndexFault
from cynosure.evaluate.results import write_result
from cynosure.models.minilm import load_minilm
from cynosure.retrieval.index import build_index, open_index
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.python_docs import python_source, read_python_docs
from cynosure.retrieval.rank import CALIBRATION, WEIGHTS, fuse
from cynosure.retrieval.search import DocsSearch, Witnesses

DATA = Path(__file__).parent / "data"
DEPTH = 10
#: Where figures of a split go. Nothing is fitted to these; `dev` is what weights are fitted to.
RESULTS = {"heldout": "docs_search", "test": "search"}


@dataclass(frozen=True)
class Question:
    """A question, and the names that answer it; none where the documentation can't."""

    id: str
    question: str
    answers: tuple[str, ...] = ()


def read_questions(kind: str, split: str) -> list[Question]:
    """Read `questions` or `unanswerable` of a split."""
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


def open_search(path: Path, embedder: Embedder) -> DocsSearch:
    """Open the index, or build it and say how long that took."""
    try:
        store = open_index(path, python_source(), embedder)
    except IndexFault as fault:
        print(fault, file=sys.stderr)
        begun = time.perf_counter()
        build_index(path, read_python_docs(), embedder)
        print(f"built in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        store = open_index(path, python_source(), embedder)
    return DocsSearch(store, embedder)


def witnesses(search: DocsSearch, embedder: Embedder, questions: Sequence[Question]) -> list[Witnesses]:
    """What words and vectors say of every entry, a question each."""
    vectors = embedder.embed([question.question for question in questions])
    pairs = zip(questions, vectors, strict=True)
    return [search.witnesses(question.question, vector) for question, vector in pairs]


def evaluate(search: DocsSearch, embedder: Embedder, split: str) -> dict[str, object]:
    """All figures of one split."""
    questions = read_questions("questions", split)
    wanted = [relevant(search, question) for question in questions]
    lost = [question.id for question, answers in zip(questions, wanted, strict=True) if not answers]
    if lost:
        raise SystemExit(
            f"no answer of {', '.join(lost)} is documented in this Python; no figure would be true."
        )
    seen = witnesses(search, embedder, questions)
    fused = [fuse(each.similarity, each.bm25, search.prior, WEIGHTS) for each in seen]
    found = quality([ranked(scores) for scores in fused], wanted)
    by_words = quality([ranked(each.bm25) for each in seen], wanted)
    by_vectors = quality([ranked(each.similarity) for each in seen], wanted)
    nothing = witnesses(search, embedder, read_questions("unanswerable", split))
    refused = [_refuses(search, each) for each in nothing]
    wrongly = [_refuses(search, each) for each in seen]
    return {
        "split": split,
        "questions": len(questions),
        **found,
        **{f"bm25_{name}": value for name, value in by_words.items()},
        **{f"embedder_{name}": value for name, value in by_vectors.items()},
        "gain_over_bm25": found["mrr10"] - by_words["mrr10"],
        "unanswerable": len(nothing),
        "unanswerable_refused": float(np.mean(refused)),
        "answerable_refused": float(np.mean(wrongly)),
        "threshold": CALIBRATION.threshold,
        "entries": len(search.store.contents.entries),
        "passages": len(search.store.contents.passages),
        "embedder": embedder.model_id,
    }


def _refuses(search: DocsSearch, seen: Witnesses) -> bool:
    scores = fuse(seen.similarity, seen.bm25, search.prior, WEIGHTS)
    return float(scores.max()) < CALIBRATION.threshold


def show(metrics: dict[str, object]) -> None:
    print(f"{metrics['split']}: {metrics['questions']} questions, {metrics['entries']} objects, "
          f"{metrics['passages']} passages, {metrics['embedder']}")  # fmt: skip
    print(f"{'':12}{'MRR@10':>8}{'recall@5':>10}{'top-1':>8}")
    for label, prefix in (("BM25", "bm25_"), ("embedder", "embedder_"), ("fused", "")):
        row = [metrics[prefix + name] for name in ("mrr10", "recall5", "top1")]
        print(f"{label:12}{row[0]:8.3f}{row[1]:10.3f}{row[2]:8.3f}")
    print(f"nothing fits: {metrics['unanswerable_refused']:.0%} of {metrics['unanswerable']} unanswerable, "
          f"{metrics['answerable_refused']:.0%} of {metrics['questions']} answerable questions")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=(*RESULTS, "dev"), default="heldout")
    parser.add_argument("--write", action="store_true", help="write results/{docs_search,search}.json")
    parser.add_argument("--dtype", default="auto", help="what the embedder computes in")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--index", type=Path, default=Path(tempfile.gettempdir()) / "cynosure-docs-eval.sqlite"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    embedder = load_minilm(chosen.dtype)
    metrics = evaluate(open_search(chosen.index, embedder), embedder, chosen.set)
    show(metrics)
    if chosen.write:
        if chosen.set not in RESULTS:
            raise SystemExit(
                f"figures of {chosen.set!r} are not written; choose --set {' or '.join(RESULTS)}."
            )
        write_result(RESULTS[chosen.set], metrics, f"python evals/docs_search.py --set {chosen.set} --write")


if __name__ == "__main__":
    main()
