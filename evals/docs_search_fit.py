"""Fit the weights of the docs search on the development questions. Never opens the held-out ones.

    python -m evals.docs_search_fit [--reference FOLDER] [--fields] [--ablate]

Prints BM25's field weights by MRR@10 over a grid; the fused score's weights by a softmax over each question's
candidates (ListNet, Cao et al. 2007), with their ten-fold cross-validated MRR@10; and thresholds of "nothing
fits". `cynosure.retrieval` holds what it prints. The ranker's weights: `evals.docs_search_fit_ranker`.

Beside the questions, some of the phrases in which people ask for objects serve as questions, each left out of
the index that answers it: there are many of these, and they keep sixty questions from being learnt by heart.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.models.minilm import load_minilm
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.rank import features
from cynosure.retrieval.search import DocsSearch, Witnesses
from cynosure.retrieval.store import Store, write_store
from cynosure.retrieval.text import query_terms
from evals.docs_search import index_of, open_search, witnesses
from evals.docs_search_arguments import add_index_arguments, reference_of
from evals.docs_search_data import Question, quality, ranked, read_questions, relevant

FIELD_GRID = ((0.5, 1.0, 2.0), (0.0, 0.2), (2.0, 4.0), (1.0, 2.0), (0.0, 0.3, 1.0), (0.0, 0.5, 1.0, 2.0))
NUM_CANDIDATES = 150
NUM_FOLDS = 10
NUM_PHRASES = 400
#: What the phrases count beside the questions, of one.
PHRASES_SHARE = 0.3
PENALTY = 1e-3
# Divides each feature, so that one penalty suits all.
SCALES = {
    "similarity": 0.1,
    "module": 0.2,
    "asked": 0.1,
    "bm25": 5.0,
    "asked_bm25": 5.0,
    "length": 1.0,
    "depth": 1.0,
    "deprecated": 1.0,
}


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions with what was found for each: tables of features by object, and who answers."""

    tables: list[Float[Tensor, "entries features"]]
    wanted: list[frozenset[int]]
    chosen: list[list[int]]
    is_object: Bool[Tensor, " entries"]

    def order(self, question: int, weights: Float[Tensor, " features"]) -> list[int]:
        """The first objects for a question."""
        scores = (self.tables[question] @ weights).masked_fill(~self.is_object, -torch.inf)
        return ranked(scores.numpy())

    def values(self) -> Float[Tensor, "questions candidates features"]:
        """The features of each question's candidates."""
        return torch.stack([table[places] for table, places in zip(self.tables, self.chosen, strict=True)])

    def right(self) -> Bool[Tensor, "questions candidates"]:
        """Which candidates answer."""
        pairs = zip(self.chosen, self.wanted, strict=True)
        return torch.tensor([[place in answers for place in places] for places, answers in pairs])


def fit_fields(search: DocsSearch, split: str) -> None:
    """Print the best field weights of BM25."""
    questions = read_questions("questions", split)
    wanted = [relevant(search, question) for question in questions]
    terms = [query_terms(question.question) for question in questions]
    rows = [
        (quality([ranked(search.store.bm25(words, fields)) for words in terms], wanted)["mrr10"], fields)
        for fields in itertools.product(*FIELD_GRID)
    ]
    for mrr, fields in sorted(rows, reverse=True)[:8]:
        print(f"BM25 MRR@10 {mrr:.3f} name, signature, summary, body, parent, reference = {fields}")


def fit(
    values: Float[Tensor, "questions candidates features"],
    right: Bool[Tensor, "questions candidates"],
    counts: Float[Tensor, " questions"],
) -> Float[Tensor, " features"]:
    """Weights that make the acceptable candidates likeliest; `counts` is what each question counts."""
    weights = torch.zeros(values.shape[2], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=80, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = values @ weights
        chosen = scores.masked_fill(~right, -torch.inf).logsumexp(1)
        total = ((scores.logsumexp(1) - chosen) * counts).sum() + PENALTY * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def stack(search: DocsSearch, seen: Witnesses, names: Sequence[str]) -> Float[Tensor, "entries features"]:
    """The features of every entry, scaled; what is no object can't be chosen."""
    found = features(seen, search.prior)
    table = np.stack([found[name] / np.float32(SCALES[name]) for name in names], axis=1)
    table[~search.prior.is_object] = 0
    return torch.tensor(table)


def candidates(search: DocsSearch, seen: Witnesses, answers: frozenset[int], count: int) -> list[int]:
    """The answers, then the nearest misses of passages, phrases and words in turn."""
    witnessed = (seen.similarity, seen.asked, seen.bm25, seen.asked_bm25)
    orders = [np.argsort(-scores)[:count] for scores in witnessed]
    mixed = dict.fromkeys(int(place) for places in zip(*orders, strict=True) for place in places)
    near = [place for place in mixed if place not in answers and search.prior.is_object[place]]
    return [*(place for place in answers if search.prior.is_object[place]), *near][:count]


def collected(
    search: DocsSearch, seen: Sequence[Witnesses], wanted: list[frozenset[int]], names: Sequence[str]
) -> Asked:
    """Tables and candidates of questions."""
    chosen = [candidates(search, each, own, NUM_CANDIDATES) for each, own in zip(seen, wanted, strict=True)]
    tables = [stack(search, each, names) for each in seen]
    return Asked(tables, wanted, chosen, torch.tensor(search.prior.is_object))


def without_some_phrases(
    search: DocsSearch,
    embedder: Embedder,
    path: Path,
    count: int = NUM_PHRASES,
    is_asked: Callable[[str], bool] = lambda name: True,
) -> tuple[DocsSearch, list[Question], np.ndarray]:
    """A search whose index lacks one phrase of some objects, and these as questions with their vectors.

    `is_asked` chooses the objects by name.
    """
    contents = search.store.contents
    assert contents.phrase_vectors is not None
    by_entry: dict[int, list[int]] = {}
    for place, phrase in enumerate(contents.phrases):
        if is_asked(contents.entries[phrase.entry].name):
            by_entry.setdefault(phrase.entry, []).append(place)
    rng = random.Random(0)
    asked = rng.sample(sorted(by_entry), min(count, len(by_entry)))
    left_out = [rng.choice(by_entry[entry]) for entry in asked]
    kept = np.setdiff1d(np.arange(len(contents.phrases)), left_out)
    phrases = tuple(contents.phrases[place] for place in kept)
    write_store(path, replace(contents, phrases=phrases, phrase_vectors=contents.phrase_vectors[kept]), "fit")
    texts = [contents.phrases[place].text for place in left_out]
    questions = [
        Question(str(n), text, (contents.entries[entry].name,))
        for n, (text, entry) in enumerate(zip(texts, asked, strict=True))
    ]
    return DocsSearch(Store(path, "fit"), embedder), questions, contents.phrase_vectors[left_out]


def cross_validate(dev: Asked, more: Asked | None) -> tuple[dict[str, float], Float[Tensor, " features"]]:
    """Quality where each question is ranked by weights fitted without it, and the weights of all."""
    values, right = dev.values(), dev.right()
    fold = torch.arange(len(dev.tables)) % NUM_FOLDS
    beside = (more.values(), more.right()) if more else None

    def weights_of(kept: Bool[Tensor, " questions"]) -> Float[Tensor, " features"]:
        share = 1 - PHRASES_SHARE if beside else 1.0
        counts = torch.full((int(kept.sum()),), share / int(kept.sum()))
        if beside is None:
            return fit(values[kept], right[kept], counts)
        others = torch.full((len(beside[1]),), PHRASES_SHARE / len(beside[1]))
        together = torch.cat([values[kept], beside[0]]), torch.cat([right[kept], beside[1]])
        return fit(*together, torch.cat([counts, others]))

    orders: dict[int, list[int]] = {}
    for left_out in range(NUM_FOLDS):
        weights = weights_of(fold != left_out)
        for place in torch.nonzero(fold == left_out).flatten().tolist():
            orders[place] = dev.order(place, weights)
    return quality([orders[n] for n in range(len(dev.tables))], dev.wanted), weights_of(fold >= 0)


def shown(names: Sequence[str], weights: Float[Tensor, " features"]) -> dict[str, float]:
    """Weights as `Weights` has them."""
    return {n: round(float(w) / SCALES[n], 3) for n, w in zip(names, weights, strict=True)}


def thresholds(sure: Sequence[float], unsure: Sequence[float]) -> None:
    """Print how well the first score tells questions with an answer from those without."""
    print(f"score of the first: AUROC {np.mean([[a > b for b in unsure] for a in sure]):.3f}")
    for share in (0.0, 0.05, 0.1, 0.15, 0.2):
        threshold = float(np.quantile(sure, share))
        refused = np.mean(np.array(unsure) < threshold)
        print(f"  {threshold:.3f} refuses {share:.0%} of the answerable, {refused:.0%} of the others")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_index_arguments(parser)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--fields", action="store_true", help="search BM25's field weights, too")
    parser.add_argument("--ablate", action="store_true", help="leave out each feature in turn")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    embedder = load_minilm(chosen.dtype)
    pages = reference_of(chosen)
    search = open_search(index_of(chosen.indexes, pages), embedder, pages)
    if chosen.fields:
        fit_fields(search, "dev")
    questions, nothing = read_questions("questions", "dev"), read_questions("unanswerable", "dev")
    seen, unseen = (witnesses(search, embedder, group) for group in (questions, nothing))
    wanted = [relevant(search, question) for question in questions]
    with tempfile.TemporaryDirectory() as folder:
        lacking, phrases, vectors = without_some_phrases(search, embedder, Path(folder) / "fit.sqlite")
        pairs = zip(phrases, vectors, strict=True)
        seen_phrases = [lacking.witnesses(phrase.question, vector) for phrase, vector in pairs]
        wanted_phrases = [relevant(search, phrase) for phrase in phrases]
    names = list(SCALES)
    for left_out in [None, *(names if chosen.ablate else ())]:
        kept = [name for name in names if name != left_out]
        dev = collected(search, seen, wanted, kept)
        more = collected(lacking, seen_phrases, wanted_phrases, kept)
        for label, others in (("questions", None), ("questions and phrases", more)):
            found, weights = cross_validate(dev, others)
            by_phrase = quality([more.order(n, weights) for n in range(len(more.tables))], more.wanted)
            rounded = {k: round(v, 3) for k, v in found.items()}
            print(f"{label}, without {left_out}: {rounded} phrases {by_phrase['mrr10']:.3f}")
            print(f"    {shown(kept, weights)}")
            if left_out is None:
                sure, unsure = (
                    [float((stack(search, each, kept) @ weights).max()) for each in group]
                    for group in (seen, unseen)
                )
                thresholds(sure, unsure)


if __name__ == "__main__":
    main()
