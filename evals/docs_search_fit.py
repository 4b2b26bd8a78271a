"""Fit the weights of the docs search on the development questions. Never opens the held-out ones.

    python -m evals.docs_search_fit [--fields]

Prints BM25's field weights by MRR@10 over a grid; the fused score's weights by a softmax over each
question's candidates (ListNet, Cao et al. 2007), with their ten-fold cross-validated MRR@10; and the
threshold of "nothing fits". `cynosure.retrieval` holds what it prints.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.models.minilm import load_minilm
from cynosure.retrieval.rank import features
from cynosure.retrieval.search import DocsSearch, Witnesses
from cynosure.retrieval.text import query_terms
from evals.docs_search import open_search, quality, ranked, read_questions, relevant, witnesses

FIELD_GRID = ((0.5, 1.0, 2.0, 4.0), (0.0, 0.2), (1.0, 2.0, 4.0), (0.3, 1.0, 2.0), (0.0, 0.3, 1.0))
NUM_CANDIDATES = 150
NUM_FOLDS = 10
PENALTY = 1e-3
# Divides each feature, so that one penalty suits all.
SCALES = {"similarity": 0.1, "module": 0.2, "bm25": 5.0, "length": 1.0, "depth": 1.0, "deprecated": 1.0}


def fit_fields(search: DocsSearch, split: str) -> None:
    """Print the best field weights of BM25."""
    questions = read_questions("questions", split)
    wanted = [relevant(search, question) for question in questions]
    terms = [query_terms(question.question) for question in questions]
    rows = [
        (quality([ranked(search.store.bm25(words, fields)) for words in terms], wanted)["mrr10"], fields)
        for fields in itertools.product(*FIELD_GRID)
    ]
    for mrr, fields in sorted(rows, reverse=True)[:5]:
        print(f"BM25 MRR@10 {mrr:.3f} name, signature, summary, body, parent = {fields}")


def fit(
    values: Float[Tensor, "questions candidates features"], right: Bool[Tensor, "questions candidates"]
) -> Float[Tensor, " features"]:
    """Weights that make the acceptable candidates likeliest."""
    weights = torch.zeros(values.shape[2], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = values @ weights
        chosen = scores.masked_fill(~right, -torch.inf).logsumexp(1)
        total = (scores.logsumexp(1) - chosen).mean() + PENALTY * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def stack(search: DocsSearch, seen: Witnesses, names: Sequence[str]) -> Float[Tensor, "entries features"]:
    found = features(seen.similarity, seen.bm25, search.prior)
    return torch.tensor(np.stack([found[name] / SCALES[name] for name in names], axis=1))


def candidates(seen: Witnesses, answers: frozenset[int], count: int) -> list[int]:
    """The answers, then the nearest misses of words and vectors in turn."""
    orders = np.argsort(-seen.similarity), np.argsort(-seen.bm25)
    mixed = dict.fromkeys(int(place) for pair in zip(*orders, strict=True) for place in pair)
    return [*answers, *(place for place in mixed if place not in answers)][:count]


def cross_validate(
    whole: list[Tensor], chosen: list[list[int]], wanted: list[frozenset[int]]
) -> tuple[dict[str, float], Float[Tensor, " features"]]:
    """Quality where each question is ranked by weights fitted without it, and the weights of all."""
    values = torch.stack([table[places] for table, places in zip(whole, chosen, strict=True)])
    right = torch.tensor(
        [[p in answers for p in places] for places, answers in zip(chosen, wanted, strict=True)]
    )
    fold = torch.arange(len(whole)) % NUM_FOLDS
    rankings: dict[int, list[int]] = {}
    for left_out in range(NUM_FOLDS):
        weights = fit(values[fold != left_out], right[fold != left_out])
        for place in torch.nonzero(fold == left_out).flatten().tolist():
            rankings[place] = ranked((whole[place] @ weights).numpy())
    return quality([rankings[n] for n in range(len(whole))], wanted), fit(values, right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--index", type=Path, default=Path(tempfile.gettempdir()) / "cynosure-docs-eval.sqlite"
    )
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--fields", action="store_true", help="search BM25's field weights, too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    embedder = load_minilm(chosen.dtype)
    search = open_search(chosen.index, embedder)
    if chosen.fields:
        fit_fields(search, "dev")
    questions = read_questions("questions", "dev")
    wanted = [relevant(search, question) for question in questions]
    seen = witnesses(search, embedder, questions)
    places = [candidates(each, answers, NUM_CANDIDATES) for each, answers in zip(seen, wanted, strict=True)]
    names = list(SCALES)
    for left_out in [None, *names]:
        kept = [name for name in names if name != left_out]
        tables = [stack(search, each, kept) for each in seen]
        found, weights = cross_validate(tables, places, wanted)
        shown = {n: round(float(w) / SCALES[n], 3) for n, w in zip(kept, weights, strict=True)}
        print(f"without {left_out}: { ({k: round(v, 3) for k, v in found.items()}) } {shown}")
    nothing = witnesses(search, embedder, read_questions("unanswerable", "dev"))
    tables = [stack(search, each, names) for each in seen]
    _, weights = cross_validate(tables, places, wanted)
    sure, unsure = ([_first(search, each, names, weights) for each in group] for group in (seen, nothing))
    print(f"score of the first: AUROC {np.mean([[a > b for b in unsure] for a in sure]):.3f}")
    for share in (0.0, 0.05, 0.1, 0.15, 0.2):
        threshold = float(np.quantile(sure, share))
        refused = np.mean(np.array(unsure) < threshold)
        print(f"  {threshold:.3f} refuses {share:.0%} of the answerable, {refused:.0%} of the others")


def _first(
    search: DocsSearch, seen: Witnesses, names: list[str], weights: Float[Tensor, " features"]
) -> float:
    return float((stack(search, seen, names) @ weights).max())


if __name__ == "__main__":
    main()
