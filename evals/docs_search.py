"""Ask the interpreter's documentation held-out questions and score the answers. Knows nothing of tuning.

    python -m evals.docs_search [--set heldout|test|faq|dev] [--reference FOLDER] [--ranker FOLDER] [--write]

Prints MRR@10, recall@5 and top-1 of words alone (BM25), of the embedder alone, of the two fused without the
phrases in which people ask, with them, and with the ranker; the same without the reference documentation; how
often nothing was found where the documentation has an answer, and where it has none; and all of it again
without the questions that nearly are such a phrase.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cynosure.core.errors import IndexFault
from cynosure.evaluate.results import write_result
from cynosure.models.minilm import load_minilm
from cynosure.retrieval.index import build_index, open_index
from cynosure.retrieval.protocols import Embedder, Ranker
from cynosure.retrieval.python_docs import python_source, read_python_docs
from cynosure.retrieval.rank import Weights, Witnesses, fuse
from cynosure.retrieval.search import DocsSearch
from evals.docs_search_arguments import (
    add_index_arguments,
    add_ranker_arguments,
    command_of,
    ranker_of,
    reference_of,
)
from evals.docs_search_data import Question, quality, ranked, read_questions, relevant

#: Where figures of a split go. Nothing is fitted to these; `dev` is what weights are fitted to.
RESULTS = {"heldout": "docs_search", "test": "search"}
#: Fitted to `dev` as well, when there were no phrases and no reference documentation.
PLAIN = Weights(similarity=15.0, module=3.9, bm25=0.041, length=0.68, depth=-0.525, deprecated=-0.98)
#: From which cosine a question nearly is a phrase of the index.
NEAR = 0.9

Ranking = list[int]


def index_of(folder: Path, reference: Path | None) -> Path:
    """Where the index with or without the reference documentation lies."""
    return folder / f"cynosure-docs-eval-{'reference' if reference else 'docstrings'}.sqlite"


def open_search(
    path: Path, embedder: Embedder, reference: Path | None = None, ranker: Ranker | None = None
) -> DocsSearch:
    """Open the index, or build it and say how long that took."""
    source = python_source(reference)
    try:
        store = open_index(path, source, embedder)
    except IndexFault as fault:
        print(fault, file=sys.stderr)
        begun = time.perf_counter()
        build_index(path, read_python_docs(reference=reference), embedder)
        print(f"built in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        store = open_index(path, source, embedder)
    return DocsSearch(store, embedder, ranker=ranker)


def witnesses(search: DocsSearch, embedder: Embedder, questions: Sequence[Question]) -> list[Witnesses]:
    """What words and vectors say of every object, a question each."""
    vectors = embedder.embed([question.question for question in questions])
    pairs = zip(questions, vectors, strict=True)
    return [search.witnesses(question.question, vector) for question, vector in pairs]


def rankings(
    search: DocsSearch, embedder: Embedder, questions: Sequence[Question]
) -> dict[str, list[Ranking]]:
    """The first objects for each question, by what ranks them."""
    seen = witnesses(search, embedder, questions)
    return {
        "bm25_": [ranked(each.bm25) for each in seen],
        "embedder_": [ranked(each.similarity) for each in seen],
        "unasked_": [ranked(fuse(each, search.prior, PLAIN)) for each in seen],
        "fused_": [ranked(fuse(each, search.prior)) for each in seen],
    }


def product_rankings(
    search: DocsSearch, questions: Sequence[Question]
) -> tuple[list[Ranking], list[bool], list[float]]:
    """What a user gets: the first objects, whether they fit, and how long a question took."""
    places = {entry.name: n for n, entry in reversed(list(enumerate(search.store.contents.entries)))}
    orders, fits, seconds = [], [], []
    for question in questions:
        begun = time.perf_counter()
        found = search.search(question.question, 10)
        seconds.append(time.perf_counter() - begun)
        orders.append([places[hit.name] for hit in found.hits])
        fits.append(found.fits)
    return orders, fits, seconds


def nearest_phrase(search: DocsSearch, embedder: Embedder, questions: Sequence[Question]) -> list[float]:
    """The cosine of each question's closest phrase in the index."""
    phrases = search.store.contents.phrase_vectors
    if phrases is None or not len(phrases):
        return [0.0] * len(questions)
    vectors = embedder.embed([question.question for question in questions])
    return (vectors @ phrases.T).max(axis=1).tolist()


def evaluate(search: DocsSearch, embedder: Embedder, split: str) -> dict[str, object]:
    """All figures of one split on one index."""
    questions = read_questions("questions", split)
    wanted = [relevant(search, question) for question in questions]
    lost = [question.id for question, answers in zip(questions, wanted, strict=True) if not answers]
    if lost:
        raise SystemExit(
            f"no answer of {', '.join(lost)} is documented in this Python; no figure would be true."
        )
    orders, fits, seconds = product_rankings(search, questions)
    rows = {"": orders, **rankings(search, embedder, questions)}
    near = nearest_phrase(search, embedder, questions)
    far = [place for place, cosine in enumerate(near) if cosine <= NEAR]
    metrics: dict[str, object] = {"questions": len(questions)}
    for prefix, found in rows.items():
        metrics |= {f"{prefix}{name}": value for name, value in quality(found, wanted).items()}
    metrics["near_phrases"] = len(questions) - len(far)
    unlike = quality([orders[n] for n in far], [wanted[n] for n in far])
    metrics |= {f"unlike_phrases_{name}": value for name, value in unlike.items()}
    metrics["answerable_refused"] = 1 - float(np.mean(fits))
    metrics["question_ms"] = 1e3 * float(np.median(seconds))
    nothing = read_questions("unanswerable", split)
    if nothing:
        _, fits, _ = product_rankings(search, nothing)
        metrics |= {"unanswerable": len(nothing), "unanswerable_refused": 1 - float(np.mean(fits))}
    return metrics


def about(search: DocsSearch, embedder: Embedder, ranker: Ranker | None) -> dict[str, object]:
    """What was asked: the index and the models."""
    contents = search.store.contents
    return {
        "threshold": search.calibration.threshold,
        "entries": search.num_objects,
        "passages": len(contents.passages),
        "phrases": len(contents.phrases),
        "index_mb": search.store.num_bytes / 1e6,
        "embedder": embedder.model_id,
        "ranker": ranker.model_id if ranker else "none",
    }


def show(title: str, metrics: Mapping[str, object]) -> None:
    """Print one table."""
    print(f"\n{title}: {metrics['questions']} questions")
    print(f"{'':24}{'MRR@10':>8}{'recall@5':>10}{'top-1':>8}")
    labels = {
        "BM25": "bm25_",
        "embedder": "embedder_",
        "fused, no phrases": "unasked_",
        "fused": "fused_",
        "whole": "",
        "whole, unlike a phrase": "unlike_phrases_",
    }
    for label, prefix in labels.items():
        row = [float(str(metrics[prefix + name])) for name in ("mrr10", "recall5", "top1")]
        print(f"{label:24}{row[0]:8.3f}{row[1]:10.3f}{row[2]:8.3f}")
    print(f"{metrics['near_phrases']} questions nearly are a phrase (cosine over {NEAR})")
    refused = f"nothing fits: {metrics['answerable_refused']:.0%} of the questions"
    if "unanswerable" in metrics:
        refused += f", {metrics['unanswerable_refused']:.0%} of {metrics['unanswerable']} unanswerable ones"
    print(f"{refused}; {metrics['question_ms']:.0f} ms a question")


def all_figures(
    split: str, folder: Path, embedder: Embedder, reference: Path | None, ranker: Ranker | None
) -> dict[str, object]:
    """The figures of a split, and under `no_reference_` those without the reference documentation."""
    metrics: dict[str, object] = {"split": split, "with_reference": reference is not None}
    for prefix, pages in {"": reference, "no_reference_": None}.items():
        if prefix and reference is None:
            break
        search = open_search(index_of(folder, pages), embedder, pages, ranker)
        if not prefix:
            metrics |= about(search, embedder, ranker)
        for part, name in (("", split), ("faq_", "faq")) if split == "test" else (("", split),):
            figures = evaluate(search, embedder, name)
            show(f"{name}, {'with' if pages else 'without'} the reference documentation", figures)
            # How long a question took is told and not kept: other processes may run beside it.
            kept = {key: value for key, value in figures.items() if key != "question_ms"}
            metrics |= {f"{prefix}{part}{key}": value for key, value in kept.items()}
        search.store.close()
    gain = float(str(metrics["mrr10"])) - float(str(metrics["bm25_mrr10"]))
    return metrics | {"gain_over_bm25": gain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=(*RESULTS, "faq", "dev"), default="heldout")
    parser.add_argument("--write", action="store_true", help="write results/{docs_search,search}.json")
    parser.add_argument("--dtype", default="auto", help="what the embedder computes in")
    parser.add_argument("--threads", type=int, default=2)
    add_index_arguments(parser)
    add_ranker_arguments(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    embedder = load_minilm(chosen.dtype)
    metrics = all_figures(chosen.set, chosen.indexes, embedder, reference_of(chosen), ranker_of(chosen))
    if chosen.write:
        if chosen.set not in RESULTS:
            raise SystemExit(
                f"figures of {chosen.set!r} are not written; choose --set {' or '.join(RESULTS)}."
            )
        write_result(RESULTS[chosen.set], metrics, command_of("docs_search", chosen))


if __name__ == "__main__":
    main()
