"""Fit when the documents do not say, on development questions. Never opens those that judge.

    python -m evals.answers_fit [--reference FOLDER] [--ranker FOLDER] [--signs FILE]

Prints how well each sign alone tells questions with an answer from those without, and the logistic function
of all of them (L2-penalised, classes balanced) with its ten-fold cross-validated abstentions; the same
without the search's score and rarity, for one's own files, and without the ranker's. What it prints stands in
`cynosure.retrieval.answer_gate`.

Beside the development questions count, as questions with an answer, phrases in which people ask for objects
that the ranker never learned from, each left out of the index; and as such without, the questions that were
held out when it was trained.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.cli.local_ranker import load_local_ranker
from cynosure.models.embedder import Embedder
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import Answering, Ranker
from cynosure.retrieval.answer_gate import LINE, Signs
from cynosure.retrieval.search import DocsSearch
from cynosure.retrieval.store import Store, write_store
from cynosure.train.pair_questions import is_held_out, unanswerable_questions
from evals.docs_search import index_of, open_search
from evals.docs_search_arguments import add_index_arguments, reference_of
from evals.docs_search_data import read_questions

NUM_FOLDS = 10
MAX_PHRASES = 200
PENALTY = 0.01
#: What the development questions count beside the phrases, of one.
DEV_SHARE = 0.5
#: How many development questions with an answer may go without one; the search was fitted to these, so that
#: of others there are more.
MAX_REFUSED = 0.05
#: What is fitted, and which signs it does without.
LEFT_OUT = {
    "all signs": frozenset[str](),
    "without what was fitted or counted on Python's documentation, for one's own files": frozenset(
        {"fused", "rarity"}
    ),
    "without the ranker": frozenset({"relevant", "answers", "no_answer"}),
}
NAMES = tuple(one.name for one in fields(Signs))


@dataclass(frozen=True)
class Case:
    """A question's signs, whether it has an answer, and whether it is a development question."""

    question: str
    signs: Signs
    has_answer: bool
    is_dev: bool


def collect(search: DocsSearch, embedder: Embedder, ranker: Ranker, folder: Path) -> list[Case]:
    """Ask every question, and keep its signs."""
    answering = Answering(search, embedder, ranker)
    lacking, phrases = without_phrases(search, embedder, ranker, folder / "fit.sqlite")
    asked = [
        (answering, [one.question for one in read_questions("questions", "dev")], True, True),
        (answering, [one.question for one in read_questions("unanswerable", "dev")], False, True),
        (Answering(lacking, embedder, ranker), phrases, True, False),
        (answering, [text for text in unanswerable_questions() if is_held_out(text)], False, False),
    ]
    cases = []
    for answers, questions, has_answer, is_dev in asked:
        for question in questions:
            signs = answers.answer(question, 1).signs
            assert signs is not None, "there is a ranker"
            cases.append(Case(question, signs, has_answer, is_dev))
    return cases


def without_phrases(
    search: DocsSearch, embedder: Embedder, ranker: Ranker, path: Path, seed: int = 0
) -> tuple[DocsSearch, list[str]]:
    """A search whose index lacks one phrase of each object that is held out, and these phrases."""
    contents = search.store.contents
    assert contents.phrase_vectors is not None, "the documentation of Python has phrases"
    by_entry: dict[int, list[int]] = {}
    for place, phrase in enumerate(contents.phrases):
        if is_held_out(contents.entries[phrase.entry].name):
            by_entry.setdefault(phrase.entry, []).append(place)
    dice = random.Random(seed)
    taken = [dice.choice(places) for places in by_entry.values()]
    taken = dice.sample(taken, min(MAX_PHRASES, len(taken)))
    kept = np.setdiff1d(np.arange(len(contents.phrases)), taken)
    phrases = tuple(contents.phrases[place] for place in kept)
    write_store(path, replace(contents, phrases=phrases, phrase_vectors=contents.phrase_vectors[kept]), "fit")
    return DocsSearch(Store(path, "fit"), embedder, ranker=ranker), [contents.phrases[n].text for n in taken]


def table(cases: Iterable[Case], names: Sequence[str]) -> Float[Tensor, "cases signs"]:
    """The signs of each case."""
    return torch.tensor([[asdict(case.signs)[name] for name in names] for case in cases]).float()


def fit(cases: Sequence[Case], names: Sequence[str]) -> tuple[Float[Tensor, " signs"], float]:
    """Weights and bias of a logistic function of the signs."""
    signs = table(cases, names)
    mean, scale = signs.mean(0), signs.std(0)
    values = (signs - mean) / scale
    right = torch.tensor([case.has_answer for case in cases])
    dev = torch.tensor([case.is_dev for case in cases])
    counts = torch.zeros(len(cases))
    for group, share in ((dev, DEV_SHARE), (~dev, 1 - DEV_SHARE)):
        for one in (group & right, group & ~right):
            counts[one] = share / 2 / one.sum().clamp(min=1)
    weights = torch.zeros(len(names) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = values @ weights[:-1] + weights[-1]
        errors = torch.nn.functional.binary_cross_entropy_with_logits(logits, right.float(), reduction="none")
        total = (errors * counts).sum() + PENALTY * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    found = weights.detach()
    return found[:-1] / scale, float(found[-1] - (found[:-1] * mean / scale).sum())


def validated(cases: Sequence[Case], names: Sequence[str]) -> Float[Tensor, " cases"]:
    """The logit of each case by a function fitted without it."""
    fold = np.array([n % NUM_FOLDS for n in range(len(cases))])
    logits = torch.zeros(len(cases))
    for left_out in range(NUM_FOLDS):
        weights, bias = fit([case for case, n in zip(cases, fold, strict=True) if n != left_out], names)
        here = np.flatnonzero(fold == left_out)
        logits[here] = table([cases[n] for n in here.tolist()], names) @ weights + bias
    return logits


def auroc(values: Float[Tensor, " cases"], right: Bool[Tensor, " cases"]) -> float:
    """How often a case with an answer is above one without."""
    return float((values[right][:, None] > values[~right][None]).float().mean())


def report(cases: Sequence[Case], names: Sequence[str]) -> None:
    """Print the function, and what it refuses where it was fitted without the question."""
    logits = validated(cases, names)
    right = torch.tensor([case.has_answer for case in cases])
    dev = torch.tensor([case.is_dev for case in cases])
    # The line lies where as many development questions with an answer are refused as may be.
    line = float(logits[dev & right].quantile(MAX_REFUSED))
    for label, group in (("development", dev), ("held-out phrases", ~dev)):
        for shown, least in (("balanced", 0.0), ("as chosen", line)):
            refused = logits < least
            right_share, wrong_share = (
                refused[group & ~right].float().mean(),
                refused[group & right].float().mean(),
            )
            print(
                f"{label:18}{shown:10} AUROC {auroc(logits[group], right[group]):.3f}, "
                f"abstains rightly {right_share:.3f}, wrongly {wrong_share:.3f}"
            )
    weights, bias = fit(cases, names)
    values = {name: round(float(weight), 3) for name, weight in zip(names, weights, strict=True)}
    values |= {name: 0.0 for name in NAMES if name not in values} | {"bias": round(bias - line, 3)}
    print(f"Gate({', '.join(f'{name}={value}' for name, value in values.items())})  # {LINE} is the line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_index_arguments(parser)
    parser.add_argument("--ranker", type=Path, help="a ranker's folder; else the pack's")
    parser.add_argument("--signs", type=Path, help="keep the signs here, and take them from here again")
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    if chosen.signs is not None and chosen.signs.is_file():
        rows = json.loads(chosen.signs.read_text())
        cases = [Case(**{**row, "signs": Signs(**row["signs"])}) for row in rows]
    else:
        embedder, ranker = load_minilm(), load_local_ranker(chosen.ranker)
        pages = reference_of(chosen)
        search = open_search(index_of(chosen.indexes, pages), embedder, pages, ranker)
        with tempfile.TemporaryDirectory() as folder:
            cases = collect(search, embedder, ranker, Path(folder))
        if chosen.signs is not None:
            chosen.signs.write_text(json.dumps([asdict(case) for case in cases], indent=0))
    for name in NAMES:
        for label, is_dev in (("development", True), ("held-out phrases", False)):
            some = [case for case in cases if case.is_dev is is_dev]
            right = torch.tensor([case.has_answer for case in some])
            print(f"{name:12}{label:18} AUROC {auroc(table(some, [name])[:, 0], right):.3f} of {len(some)}")
    for label, left_out in LEFT_OUT.items():
        print(f"\n{label}")
        report(cases, [name for name in NAMES if name not in left_out])


if __name__ == "__main__":
    main()
