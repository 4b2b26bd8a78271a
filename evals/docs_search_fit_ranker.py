"""Fit how much the ranker counts in the docs search, on development questions. Never opens held-out ones.

    python -m evals.docs_search_fit_ranker [--reference FOLDER] [--ranker FOLDER]

Prints, by how many objects are read and which logits count, the weights by a softmax over each question's
objects with their ten-fold cross-validated MRR@10, and the thresholds of "nothing fits". Beside the questions
stand phrases, each left out of the index, of objects that the ranker never learned from.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.cli.local_ranker import load_local_ranker
from cynosure.models.minilm import load_minilm
from cynosure.retrieval.protocols import Ranker
from cynosure.retrieval.rank import fuse
from cynosure.retrieval.search import LABELS, DocsSearch, Witnesses
from cynosure.train.pair_questions import is_held_out
from evals.docs_search import index_of, open_search, witnesses
from evals.docs_search_arguments import add_index_arguments, reference_of
from evals.docs_search_data import Question, quality, read_questions, relevant
from evals.docs_search_fit import NUM_FOLDS, PHRASES_SHARE, fit, thresholds, without_some_phrases

DEPTHS = (12, 24)
NUM_PHRASES = 120
USED = ((0,), (0, 1), (0, 1, 2), (0, 1, 3), (0, 1, 2, 3))
NAMES = ("fused", *LABELS)


@dataclass(frozen=True, eq=False)
class Judged:
    """Questions with the objects that were read for each, best first by the fused score."""

    places: list[list[int]]
    values: Float[Tensor, "questions objects 4"]
    wanted: list[frozenset[int]]

    def right(self, depth: int) -> Bool[Tensor, "questions objects"]:
        """Which objects answer."""
        pairs = zip(self.places, self.wanted, strict=True)
        return torch.tensor([[place in own for place in read[:depth]] for read, own in pairs])

    def order(
        self, question: int, weights: Float[Tensor, " used"], used: Sequence[int], depth: int
    ) -> list[int]:
        """The first objects for a question."""
        scores = self.values[question, :depth][:, list(used)] @ weights
        return [self.places[question][n] for n in scores.argsort(descending=True)[:10].tolist()]


def judge(
    search: DocsSearch, ranker: Ranker, questions: Sequence[Question], seen: Sequence[Witnesses]
) -> Judged:
    """Read the best objects of each question."""
    places, values = [], []
    for question, each in zip(questions, seen, strict=True):
        fused = fuse(each, search.prior)
        read = np.argsort(-fused, kind="stable")[: max(DEPTHS)]
        logits = search.judged(question.question, read.tolist(), each, ranker)
        values.append(torch.tensor(np.concatenate([fused[read, None], logits], axis=1)))
        places.append(read.tolist())
    wanted = [relevant(search, question) for question in questions]
    return Judged(places, torch.stack(values), wanted)


def fitted(
    groups: Sequence[tuple[Judged, Bool[Tensor, " questions"], float]], used: Sequence[int], depth: int
) -> Float[Tensor, " used"]:
    """Weights from groups of questions, of which some are kept, and what share each group has."""
    values, right, counts = [], [], []
    for judged, kept, share in groups:
        answers = judged.right(depth)
        rows = kept & answers.any(1)
        values.append(judged.values[rows, :depth][:, :, list(used)])
        right.append(answers[rows])
        counts.append(torch.full((int(rows.sum()),), share / max(1, int(rows.sum()))))
    return fit(torch.cat(values), torch.cat(right), torch.cat(counts))


def cross_validated(
    dev: Judged, phrases: Judged, used: Sequence[int], depth: int
) -> tuple[dict[str, float], Float[Tensor, " used"]]:
    """Quality where each question is ranked by weights fitted without it, and the weights of all."""
    fold = torch.arange(len(dev.places)) % NUM_FOLDS
    every = torch.ones(len(phrases.places), dtype=torch.bool)
    orders: dict[int, list[int]] = {}
    for left_out in range(NUM_FOLDS):
        groups = ((dev, fold != left_out, 1 - PHRASES_SHARE), (phrases, every, PHRASES_SHARE))
        weights = fitted(groups, used, depth)
        for n in torch.nonzero(fold == left_out).flatten().tolist():
            orders[n] = dev.order(n, weights, used, depth)
    whole = ((dev, fold >= 0, 1 - PHRASES_SHARE), (phrases, every, PHRASES_SHARE))
    return quality([orders[n] for n in range(len(orders))], dev.wanted), fitted(whole, used, depth)


def show(dev: Judged, phrases: Judged, nothing: Judged) -> None:
    """Print everything, by depth and by which logits count."""
    for depth in DEPTHS:
        found = [int(judged.right(depth).any(1).sum()) for judged in (dev, phrases)]
        print(f"depth {depth}: an answer is read for {found[0]} of {len(dev.places)} questions, "
              f"{found[1]} of {len(phrases.places)} phrases")  # fmt: skip
        for used in USED:
            mean, weights = cross_validated(dev, phrases, used, depth)
            orders = [phrases.order(n, weights, used, depth) for n in range(len(phrases.places))]
            told = {k: round(v, 3) for k, v in mean.items()}
            named = {NAMES[k]: round(w, 3) for k, w in zip(used, weights.tolist(), strict=True)}
            print(f"  {told} phrases {quality(orders, phrases.wanted)['mrr10']:.3f} {named}")
            first = [(judged.values[:, :depth][:, :, list(used)] @ weights).max(1).values.tolist()
                     for judged in (dev, nothing)]  # fmt: skip
            thresholds(*first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_index_arguments(parser)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranker", type=Path, help="a ranker's folder; else the pack's")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    embedder, ranker = load_minilm(chosen.dtype), load_local_ranker(chosen.ranker)
    pages = reference_of(chosen)
    search = open_search(index_of(chosen.indexes, pages), embedder, pages)
    questions, nothing = read_questions("questions", "dev"), read_questions("unanswerable", "dev")
    groups = [
        judge(search, ranker, group, witnesses(search, embedder, group)) for group in (questions, nothing)
    ]
    with tempfile.TemporaryDirectory() as folder:
        lacking, phrases, vectors = without_some_phrases(
            search, embedder, Path(folder) / "fit.sqlite", NUM_PHRASES, is_held_out
        )
        pairs = zip(phrases, vectors, strict=True)
        seen = [lacking.witnesses(phrase.question, vector) for phrase, vector in pairs]
        judged_phrases = judge(lacking, ranker, phrases, seen)
    show(groups[0], judged_phrases, groups[1])


if __name__ == "__main__":
    main()
