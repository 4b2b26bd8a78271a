"""Tell which parts of a prompt each sentence of an answer cites. Computes no score, and knows no protocol."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cynosure.core.errors import InputError
from cynosure.insight import PromptPart, PromptSegments, Reading
from cynosure.insight.citing.citations import (
    CITED_ROLES,
    DEFAULT_PER_SENTENCE,
    Citation,
    CitationReader,
    CitationRule,
    citable_parts,
    citation_weights_of,
    is_watched,
)
from cynosure.insight.sentences import sentence_spans
from cynosure.server.answers.said_tokens import SaidTokens
from cynosure.server.schemas.citations import AnswerCitation, CitationsParam, CitedSource
from cynosure.server.services import CompletionModel

#: Digits behind the point: finer than a calibration is.
_DIGITS = 4


def citation_rule(model: CompletionModel, param: CitationsParam | None) -> CitationRule | None:
    """What is to be cited of a model's answers; None where nothing is asked.

    Raises:
        InputError: nobody fitted citations to this model.
    """
    if param is None:
        return None
    weights = citation_weights_of(model.watching.profile)
    if weights is None or model.watching.choice is None or not is_watched(weights, model.watching.choice):
        raise InputError(
            f"citations are asked for, and {model.name} has no weights for them; each model has its own."
            " Make a profile with `cynosure profile FOLDER --citations FILE`, and serve with --head-profile; "
            "or leave citations out."
        )
    return CitationRule(
        weights,
        weights.min_score if param.min_score is None else param.min_score,
        param.max_per_sentence or DEFAULT_PER_SENTENCE,
        is_whole=param.granularity == "part",
    )


def citable(segments: PromptSegments, max_parts: int) -> PromptSegments:
    """The prompt's parts as they are watched to be cited: documents by sentence, where there is room.

    Raises:
        InputError: no part can be cited.
    """
    if not citable_parts(segments):
        raise InputError(
            "citations are asked for, and the prompt has no document or result of a tool. Give a part of a "
            'message a segment, "doc:1" say, or send documents; or leave citations out.'
        )
    return segments.by_sentence(2, max_parts, CITED_ROLES)


class CitationTeller:
    """Tells of one answer what its sentences cite, as they end."""

    def __init__(self, reading: Reading, rule: CitationRule) -> None:
        """Start before the first token."""
        self._reader = CitationReader(rule, reading)
        self._segments = reading.segments
        self._is_whole = rule.is_whole
        self._num_told = 0

    def ended(self, said: SaidTokens, *, is_last: bool) -> list[AnswerCitation]:
        """What sentences cite that ended since this was asked last; the last one ends with the answer."""
        spans = sentence_spans(said.text)
        ended = spans if is_last else spans[:-1]
        new = ended[self._num_told :]
        tokens = said.tokens(self._segments) if new else None
        if tokens is None:
            # Where what was said is not found among the tokens, the end may show it.
            return []
        self._num_told = len(ended)
        found = [one for span in new for one in self._reader.of_sentence(span, tokens)]
        return self._told(found, said.text)

    def _told(self, found: Sequence[Citation], text: str) -> list[AnswerCitation]:
        by_sentence = groupby(found, key=lambda one: (one.start, one.end))
        return [
            AnswerCitation(
                start=start,
                end=end,
                text=text[start:end],
                sources=[self._source(self._segments.parts[one.part], one.score) for one in own],
            )
            for (start, end), own in by_sentence
        ]

    def _source(self, part: PromptPart, score: float) -> CitedSource:
        # A sentence of a part bears its number behind the part's id.
        name = part.id.split("#")[0]
        cited = [part]
        if self._is_whole:
            cited = [one for one in self._segments.parts if one.id.split("#")[0] == name]
        return CitedSource(
            type="tool" if part.role == "tool" else "document",
            id=name,
            message=part.message,
            part=part.part,
            start=cited[0].start,
            end=cited[-1].end,
            score=round(score, _DIGITS),
        )
