"""Ask the documentation questions, with and without an answer in it, and judge what is quoted. Tunes nothing.

    python -m evals.answers [--set dev|test] [--reference FOLDER] [--ranker FOLDER] [--write]

Of the questions that have an answer: how often a right object is among those quoted (`cited`), how often a
quote contains what answers (`quote_contains`; of a right object: `right_contains`; the highlighted sentence:
`highlight_contains`; the first quote: `first_contains`), and how often nothing was quoted (`abstains_wrong`).
Of those that have none: how often nothing was quoted (`abstains_right`). `verbatim` is the share of quotes
that stand, character by character, at their place in a text read anew. Baselines quote, and never abstain,
the first sentence of the closest passage of as many objects, found by words (BM25), by the embedder, and by
both fused; `unranked_` is what is quoted where there is no ranker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from cynosure.cli.local_ranker import LocalRanker
from cynosure.cli.python_docs import PythonDocs
from cynosure.evaluate.results import write_result
from cynosure.models.embedder import Embedder
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import read_python_docs
from cynosure.retrieval.documents import Entry
from cynosure.retrieval.rank import fuse
from cynosure.retrieval.search import DocsSearch
from cynosure.retrieval.sentences import sentences
from evals.answers_data import Quotation, Sources, judge, read_contained
from evals.docs_search import index_of, open_search, witnesses
from evals.docs_search_arguments import (
    add_index_arguments,
    add_ranker_arguments,
    command_of,
    ranker_of,
    reference_of,
)
from evals.docs_search_data import Question, ranked, read_questions

NUM_QUOTES = 5

Quoted = list[list[Quotation]]


def names_of(entry: Entry) -> frozenset[str]:
    """All names of an entry's object."""
    return frozenset({entry.name, *entry.aliases})


def product_quotes(
    docs: PythonDocs, names: Mapping[str, frozenset[str]], questions: Sequence[Question]
) -> Quoted:
    """What a user is shown: quotes, or none."""
    quoted: Quoted = []
    for question in questions:
        found = docs.ask(question.question, NUM_QUOTES).quotes
        quoted.append(
            [
                Quotation(
                    names[quote.object],
                    f"{quote.object}{quote.signature}",
                    quote.text,
                    quote.start,
                    quote.source,
                    quote.text[quote.highlight.start : quote.highlight.end] if quote.highlight else "",
                )
                for quote in found
            ]
        )
    return quoted


def baseline_quotes(
    search: DocsSearch, embedder: Embedder, questions: Sequence[Question]
) -> Iterator[tuple[str, Quoted]]:
    """By what ranks the objects: the first sentence of the closest passage of each of the best."""
    seen = witnesses(search, embedder, questions)
    contents = search.store.contents

    def quotes(scores: Float32[np.ndarray, " entries"], passage: np.ndarray) -> list[Quotation]:
        found = []
        for place in ranked(scores, NUM_QUOTES):
            entry, closest = contents.entries[place], contents.passages[passage[place]]
            text = contents.entries[closest.entry]
            start, end = sentences(text.doc, (closest.start, closest.end))[0]
            signature = f"{entry.name}{entry.signature or text.signature}"
            said = text.doc[start:end]
            found.append(Quotation(names_of(entry), signature, said, text.start + start, text.source, said))
        return found

    yield "bm25_", [quotes(each.bm25, each.passage) for each in seen]
    yield "embedder_", [quotes(each.similarity, each.passage) for each in seen]
    yield "fused_", [quotes(fuse(each, search.prior), each.passage) for each in seen]


def evaluate(
    split: str, search: DocsSearch, embedder: Embedder, ranker: LocalRanker | None, reference: Path | None
) -> dict[str, object]:
    """All figures of one split."""
    questions, nothing = read_questions("questions", split), read_questions("unanswerable", split)
    contained = read_contained(split)
    names = {entry.name: names_of(entry) for entry in reversed(search.store.contents.entries)}
    docs = PythonDocs(search, embedder, ranker=ranker)
    quoted = product_quotes(docs, names, questions)
    unwanted = product_quotes(docs, names, nothing)
    sources = Sources(read_python_docs(reference=reference).entries)
    shown = [quote for quotes in (*quoted, *unwanted) for quote in quotes]
    metrics: dict[str, object] = {
        "split": split,
        "questions": len(questions),
        "unanswerable": len(nothing),
        **judge(questions, contained, quoted),
        "abstains_right": float(np.mean([not quotes for quotes in unwanted])),
        "abstains_wrong": float(np.mean([not quotes for quotes in quoted])),
        "quotes": len(shown),
        "verbatim": float(np.mean([sources.is_verbatim(quote) for quote in shown])),
    }
    plain = DocsSearch(search.store, embedder)
    for prefix, found in baseline_quotes(search, embedder, questions):
        metrics |= {f"{prefix}{name}": value for name, value in judge(questions, contained, found).items()}
    without = PythonDocs(plain, embedder)
    unranked = product_quotes(without, names, questions)
    metrics |= {f"unranked_{name}": value for name, value in judge(questions, contained, unranked).items()}
    metrics["unranked_abstains_wrong"] = float(np.mean([not quotes for quotes in unranked]))
    refused = [not quotes for quotes in product_quotes(without, names, nothing)]
    metrics["unranked_abstains_right"] = float(np.mean(refused))
    return metrics


def show(metrics: Mapping[str, object]) -> None:
    """Print the table."""
    print(
        f"{metrics['split']}: {metrics['questions']} questions, {metrics['unanswerable']} without an answer"
    )
    columns = (
        "cited",
        "quote_contains",
        "right_contains",
        "highlight_contains",
        "first_contains",
        "quote_chars",
    )
    print(f"{'':22}" + "".join(f"{name:>20}" for name in columns))
    rows = {
        "BM25": "bm25_",
        "embedder": "embedder_",
        "fused": "fused_",
        "without the ranker": "unranked_",
        "whole": "",
    }
    for label, prefix in rows.items():
        print(f"{label:22}" + "".join(f"{float(str(metrics[prefix + name])):20.3f}" for name in columns))
    for label, prefix in (("without the ranker", "unranked_"), ("whole", "")):
        right, wrong = metrics[f"{prefix}abstains_right"], metrics[f"{prefix}abstains_wrong"]
        print(f"{label}: abstains rightly {right:.3f}, wrongly {wrong:.3f}")
    print(f"{metrics['verbatim']:.1%} of {metrics['quotes']} quotes stand in their source")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("dev", "test"), default="dev")
    parser.add_argument("--write", action="store_true", help="write results/answers.json")
    parser.add_argument("--threads", type=int, default=2)
    add_index_arguments(parser)
    add_ranker_arguments(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    embedder = load_minilm()
    reference, ranker = reference_of(chosen), ranker_of(chosen)
    search = open_search(index_of(chosen.indexes, reference), embedder, reference, ranker)
    metrics = evaluate(chosen.set, search, embedder, ranker, reference)
    metrics["with_reference"] = reference is not None
    metrics["ranker"] = ranker.model_id if ranker else "none"
    show(metrics)
    if metrics["verbatim"] != 1.0:
        raise SystemExit("a quote does not stand in its source; no figure is written.")
    if chosen.write:
        if chosen.set != "test":
            raise SystemExit("figures of the development set are not written; choose --set test.")
        write_result("answers", metrics, command_of("answers", chosen))


if __name__ == "__main__":
    main()
