"""Read what quotations must contain, and judge answers by it. Knows nothing of how they are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cynosure.retrieval.documents import Entry
from evals.docs_search_data import DATA, Question

#: Strings of which all must occur, by alternative.
Alternatives = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Quotation:
    """What was quoted: of which object, by all its names, its signature line, and a slice of a text."""

    names: frozenset[str]
    signature: str
    text: str
    start: int
    source: str
    highlight: str = ""


def read_contained(split: str) -> dict[str, Alternatives]:
    """By a question's id, what a quotation must contain to answer it."""
    lines = (DATA / f"docs_answers_{split}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["id"]: tuple(tuple(strings) for strings in row["contains"]) for row in rows}


def answers(text: str, alternatives: Alternatives) -> bool:
    """Whether all strings of some alternative occur: case and runs of white space do not count."""
    folded = _folded(text)
    return any(all(_folded(string) in folded for string in strings) for strings in alternatives)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


class Sources:
    """The texts that quotes are slices of, read anew from the interpreter and the reference."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._texts: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            for name in (entry.name, *entry.aliases):
                self._texts.setdefault((name, entry.source), []).append(entry)

    def is_verbatim(self, quotation: Quotation) -> bool:
        """Whether a quote stands in its source at its place, character by character."""
        texts = [entry for name in quotation.names for entry in self._texts.get((name, quotation.source), ())]
        return any(
            quotation.start >= entry.start
            and entry.doc.startswith(quotation.text, quotation.start - entry.start)
            for entry in texts
        )


def judge(
    questions: Sequence[Question],
    contained: Mapping[str, Alternatives],
    quoted: Sequence[Sequence[Quotation]],
) -> dict[str, float]:
    """How often a right object is among those quoted, and how often a quote contains what answers.

    `quote_contains` takes any quote, with its signature line; `right_contains` such of a right object only;
    `highlight_contains` looks for it in the highlighted sentences and signature lines alone.
    """
    rows = []
    for question, quotes in zip(questions, quoted, strict=True):
        needed = contained[question.id]
        right = [quote for quote in quotes if quote.names & set(question.answers)]
        rows.append(
            (
                bool(right),
                any(answers(f"{quote.signature}\n{quote.text}", needed) for quote in quotes),
                any(answers(f"{quote.signature}\n{quote.text}", needed) for quote in right),
                any(answers(f"{quote.signature}\n{quote.highlight}", needed) for quote in quotes),
                any(answers(f"{quote.signature}\n{quote.text}", needed) for quote in quotes[:1]),
            )
        )
    names = ("cited", "quote_contains", "right_contains", "highlight_contains", "first_contains")
    figures = np.mean(np.array(rows, dtype=float), axis=0)
    lengths = [len(quote.text) for quotes in quoted for quote in quotes]
    return dict(zip(names, figures.tolist(), strict=True)) | {
        "quote_chars": float(np.mean(lengths)) if lengths else 0.0
    }
