"""Say what each sentence of an answer cites first, and how near others came. Knows nothing of ablations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cynosure.insight.citing.citation_weights import CitationWeights
from cynosure.insight.citing.citations import (
    CitationReader,
    CitationRule,
    citable_parts,
    citation_weights_of,
    is_watched,
)
from cynosure.insight.judging.risk import tokens_in
from cynosure.insight.report import AttentionReport
from cynosure.insight.sentences import sentence_spans


@dataclass(frozen=True)
class Cited:
    """A sentence of an answer, its tokens `first:end`, and what it cites before all else.

    `part` is the cited one, by its place among all parts of the prompt, with its score; `uncited` are those
    that could have been cited and are not, with theirs.
    """

    first: int
    end: int
    part: int
    score: float
    uncited: tuple[tuple[int, float], ...]


Cite = Callable[[AttentionReport], Sequence[Cited]]


def cited_in(report: AttentionReport) -> list[Cited]:
    """What the weights of its model's profile cite.

    Nothing without any, or where a request has other heads watched than those that they are of.

    Raises:
        ProfileError: the profile's section is not usable.
    """
    weights = citation_weights_of(report.reading.profile)
    if weights is None or not is_watched(weights, report.reading.choice):
        return []
    return weighed(report, weights)


def weighed(report: AttentionReport, weights: CitationWeights) -> list[Cited]:
    """Cite as the weights do, from their own least chance on."""
    # All that could be cited, so that it is known how near the others came.
    num_parts = len(citable_parts(report.reading.segments))
    reader = CitationReader(CitationRule(weights, 0.0, num_parts), report.reading)
    by_sentence = defaultdict[tuple[int, int], list[tuple[int, float]]](list)
    for one in reader.citations(report.tokens, report.text):
        by_sentence[one.start, one.end].append((one.part, one.score))
    found = []
    for span, scores in by_sentence.items():
        # The likeliest comes first.
        part, score = scores[0]
        tokens = token_span(report, span)
        if score >= weights.min_score and tokens is not None:
            uncited = [(other, low) for other, low in scores if low < weights.min_score]
            found.append(Cited(*tokens, part, score, tuple(uncited)))
    return found


def most_attended(report: AttentionReport) -> list[Cited]:
    """Cite the document that a sentence's tokens attended to most: what a fit is compared with."""
    parts = report.reading.segments.parts
    callers = [index for index, part in enumerate(parts) if part.is_callers]
    documents = set(citable_parts(report.reading.segments))
    found = []
    for span in sentence_spans(report.text):
        tokens = token_span(report, span)
        rows = [] if tokens is None else [token.shares for token in report.tokens[slice(*tokens)]]
        shares = [row.masses for row in rows if row is not None]
        if tokens is not None and shares and documents:
            means = [sum(masses) / len(shares) for masses in zip(*shares, strict=True)]
            scores = [(part, mean) for part, mean in zip(callers, means, strict=True) if part in documents]
            best = max(scores, key=lambda pair: pair[1])
            found.append(Cited(*tokens, *best, tuple(pair for pair in scores if pair != best)))
    return found


def token_span(report: AttentionReport, span: tuple[int, int]) -> tuple[int, int] | None:
    """The first token of a sentence of an answer, and the end of the last; None where it has none."""
    own = tokens_in(span, report.tokens)
    if not own:
        return None
    first = report.tokens.index(own[0])
    return first, first + len(own)
