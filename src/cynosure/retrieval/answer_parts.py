"""Find the part of an object's texts that answers a question, and quote it. Knows of models by Protocol.

Of each object that was found, the sentences of the closest passage and of what its texts say first are read
with the question, and so is its signature. The part that answers best is quoted with what is around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cynosure.retrieval.answer import QuotedPassage
from cynosure.retrieval.documents import object_places
from cynosure.retrieval.protocols import Embedder, Ranker
from cynosure.retrieval.search import Hit
from cynosure.retrieval.sentences import sentences, widened
from cynosure.retrieval.store import Contents
from cynosure.retrieval.text import Span

#: How long a quote may become around the part that answers; a longer part is quoted alone.
MAX_QUOTE = 500
#: How many parts of an object are read at most, the closest passage's first.
MAX_PARTS = 20


@dataclass(frozen=True)
class Part:
    """A slice of an entry's text."""

    entry: int
    start: int
    end: int


class Parts:
    """The parts of an index's texts."""

    def __init__(self, contents: Contents) -> None:
        """Note where each object's texts are, and how each of them begins."""
        self._contents = contents
        self._object = object_places(contents.entries)
        self._texts: dict[int, list[int]] = {}
        for entry, stands in enumerate(self._object.tolist()):
            self._texts.setdefault(stands, []).append(entry)
        self._openings: dict[int, list[Span]] = {}
        for passage in contents.passages:
            self._openings.setdefault(passage.entry, []).append((passage.start, passage.end))

    def of(self, hit: Hit) -> list[Part]:
        """What of an object is read: the closest passage by sentences, then how its texts begin."""
        entries = self._contents.entries
        origin = entries[hit.place].start
        spans = [(hit.place, (hit.start - origin, hit.end - origin))]
        texts = self._texts[int(self._object[hit.place])]
        # A module's further texts are its sections, of which the closest was found.
        opening = texts[:1] if hit.kind == "module" else texts
        # A text's first passage is its summary, and the second how the whole begins.
        spans += [(entry, span) for entry in opening for span in self._openings.get(entry, ())[:2]]
        parts = [
            Part(entry, *span) for entry, around in spans for span in sentences(entries[entry].doc, around)
        ]
        return list(dict.fromkeys(parts))[:MAX_PARTS]

    def text(self, part: Part) -> str:
        """A part on one line."""
        return " ".join(self._contents.entries[part.entry].doc[part.start : part.end].split())

    def quoted(self, hit: Hit, part: Part, embedder: Embedder, max_chars: int = MAX_QUOTE) -> QuotedPassage:
        """Quote a part of a hit's object, with what is around it and can be read together."""
        entry = self._contents.entries[part.entry]

        def fits(span: Span) -> bool:
            text = entry.doc[span[0] : span[1]]
            return len(text) <= max_chars and embedder.count_tokens(hit.heading + text) <= embedder.max_tokens

        start, end = _around(entry.doc, (part.start, part.end), max_chars, fits)
        shown = replace(
            hit,
            text=entry.doc[start:end],
            start=entry.start + start,
            end=entry.start + end,
            source=entry.source,
            place=part.entry,
        )
        return QuotedPassage(shown, "retriever", (), (part.start - start, part.end - start))


def quote_parts(
    question: str, hits: Sequence[Hit], parts: Parts, ranker: Ranker, embedder: Embedder
) -> tuple[list[QuotedPassage], list[float]]:
    """Quote, of each hit's object, the part that answers best, and tell its highest `answers`.

    Args:
        question: What was asked.
        hits: What was found.
        parts: Of the index that they were found in.
        ranker: Judges each part, and the signature; these are not passages, and may count for it.
        embedder: Counts tokens: a signature beyond what it reads is too much for the ranker, too.
    """
    read = [parts.of(hit) for hit in hits]
    lines: list[list[str]] = []
    for hit, some in zip(hits, read, strict=True):
        signature = f"{hit.heading}{hit.name}{hit.signature}"
        fits = bool(hit.signature) and embedder.count_tokens(signature) <= embedder.max_tokens
        lines.append([hit.heading + parts.text(part) for part in some] + [signature] * fits)
    said = ranker.score(question, [line for some in lines for line in some])
    logits = np.split(said[:, ranker.labels.index("answers")], np.cumsum([len(some) for some in lines])[:-1])
    quotes = [
        parts.quoted(hit, some[int(of_hit[: len(some)].argmax())], embedder)
        for hit, some, of_hit in zip(hits, read, logits, strict=True)
    ]
    return quotes, [float(of_hit.max()) for of_hit in logits]


def _around(doc: str, part: Span, max_chars: int, fits: Callable[[Span], bool]) -> Span:
    """A part with what is around it, whole sentences alone."""
    low, high = max(0, part[0] - max_chars), min(len(doc), part[1] + max_chars)
    # What is cut at either end of the slice may be no whole sentence.
    before = sentences(doc, (low, part[0]))[low > 0 :]
    after = sentences(doc, (part[1], high))
    after = after[:-1] if high < len(doc) else after
    return widened([*before, part, *after], len(before), fits)
