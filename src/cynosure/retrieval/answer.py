"""Turn hits into quotes that can be checked. Knows nothing of models: evidence is handed in.

A quote is a slice of a docstring, `doc[start:end]`, by whose name and by what wrote it. What the embedder
attended to is told in code points of the quote; the heading that was embedded before it is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.retrieval.protocols import AttendedSpan, Evidence
from cynosure.retrieval.search import Found, Hit

NOTHING_FITS = "nothing in the documentation fits the question"


@dataclass(frozen=True)
class QuotedPassage:
    """A verbatim passage and what was attended to in it.

    Attributes:
        hit: Object, offsets and scores.
        author: Who wrote the text: always `retriever`, since nothing here is generated.
        attended: Spans of `hit.text`, in code points, in order.
    """

    hit: Hit
    author: str
    attended: tuple[AttendedSpan, ...]


@dataclass(frozen=True)
class QuotedAnswer:
    """The best passages, or none and why."""

    question: str
    passages: tuple[QuotedPassage, ...]
    answered: bool
    reason: str
    threshold: float


def quote(question: str, found: Found, evidence: Evidence | None = None) -> QuotedAnswer:
    """Quote what was found; below the calibrated score nothing is quoted.

    Args:
        question: What was asked.
        found: What the search found for it.
        evidence: Tells what the embedder attended to; `None` leaves the spans empty.
    """
    threshold = found.calibration.threshold
    if not found.fits:
        best = f"{found.hits[0].score:.2f}" if found.hits else "none"
        reason = f"{NOTHING_FITS}: the best score is {best}, below {threshold:.2f}"
        return QuotedAnswer(question, (), False, reason, threshold)
    passages = tuple(
        QuotedPassage(hit, "retriever", attended_in_quote(hit, evidence) if evidence else ())
        for hit in found.hits
    )
    return QuotedAnswer(question, passages, True, "", threshold)


def attended_in_quote(hit: Hit, evidence: Evidence) -> tuple[AttendedSpan, ...]:
    """The spans attended to in a hit's passage, counted from its first character."""
    return shift(evidence.attended(hit.heading + hit.text), len(hit.heading))


def shift(spans: Sequence[AttendedSpan], by: int) -> tuple[AttendedSpan, ...]:
    """Count spans from `by` on, cut or leave out what lies before."""
    return tuple(
        AttendedSpan(max(span.start - by, 0), span.end - by, span.weight) for span in spans if span.end > by
    )
