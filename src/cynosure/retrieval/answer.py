"""Turn hits into quotes that can be checked. Knows nothing of models: evidence is handed in.

A quote is a slice of a docstring, of the reference documentation or of a file, `doc[start:end]`, by whose
name and by what wrote it. What was attended to is told in code points of the quote; the heading that was
read before it is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.retrieval.protocols import AttendedSpan, Evidence
from cynosure.retrieval.search import Found, Hit
from cynosure.retrieval.text import Span

NOTHING_FITS = "nothing in the documentation fits the question"


@dataclass(frozen=True)
class QuotedPassage:
    """A verbatim passage, what in it answers, and what was attended to.

    Attributes:
        hit: Object, offsets and scores; its text is what is quoted.
        author: Who wrote the text: always `retriever`, since nothing here is generated.
        attended: Spans of `hit.text`, in code points, in order.
        highlight: The part of `hit.text` that answers best by the ranker; `None` where there is none.
    """

    hit: Hit
    author: str
    attended: tuple[AttendedSpan, ...]
    highlight: Span | None = None


@dataclass(frozen=True)
class QuotedAnswer:
    """The best passages, or none and why.

    `confidence` is what answered or not was decided by, and `threshold` the least that it needed.
    """

    question: str
    passages: tuple[QuotedPassage, ...]
    answered: bool
    reason: str
    threshold: float
    confidence: float


def quote(question: str, found: Found, evidence: Evidence | None = None) -> QuotedAnswer:
    """Quote the passages that were found; below the calibrated score nothing is quoted.

    Args:
        question: What was asked.
        found: What the search found for it.
        evidence: Tells what the embedder attended to; `None` leaves the spans empty.
    """
    threshold = found.calibration.threshold
    score = found.hits[0].score if found.hits else float("-inf")
    if not found.fits:
        best = f"{score:.2f}" if found.hits else "none"
        reason = f"{NOTHING_FITS}: the best score is {best}, below {threshold:.2f}"
        return QuotedAnswer(question, (), False, reason, threshold, score)
    passages = tuple(
        QuotedPassage(hit, "retriever", attended_in_quote(hit, evidence) if evidence else ())
        for hit in found.hits
    )
    return QuotedAnswer(question, passages, True, "", threshold, score)


def attended_in_quote(hit: Hit, evidence: Evidence) -> tuple[AttendedSpan, ...]:
    """The spans attended to in a hit's passage, counted from its first character."""
    return shift(evidence.attended(hit.heading + hit.text), len(hit.heading))


def shift(spans: Sequence[AttendedSpan], by: int) -> tuple[AttendedSpan, ...]:
    """Count spans from `by` on, cut or leave out what lies before."""
    return tuple(
        AttendedSpan(max(span.start - by, 0), span.end - by, span.weight) for span in spans if span.end > by
    )
