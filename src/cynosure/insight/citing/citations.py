"""Say from which parts of a prompt each sentence of an answer was drawn. Knows nothing of heads or of HTTP.

While a sentence is written, weighted heads attend to the documents: that is added up over its tokens, and
turned into the chance that the sentence would be less likely without a document. Where no chance is large
enough, none is cited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cynosure.insight.citing.citation_weights import GROUP, SECTION, CitationWeights
from cynosure.insight.head_choice import HeadChoice
from cynosure.insight.judging.risk import tokens_in
from cynosure.insight.profile import HeadProfile
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.insight.report import AttentionReport, Reading, ReadToken
from cynosure.insight.sentences import Span, sentence_spans

#: Whose texts may be cited: what was given to be read.
CITED_ROLES = ("document", "tool")
#: Citations of a sentence where a request names no number.
DEFAULT_PER_SENTENCE = 3


class Citation(NamedTuple):
    """A sentence of an answer, and a part of its prompt that it was drawn from.

    `start:end` are code points of the answer, `part` is an index into the prompt's parts, and `score` the
    chance that the sentence would be less likely without the part.
    """

    start: int
    end: int
    part: int
    score: float


@dataclass(frozen=True)
class CitationRule:
    """What is cited: parts with at least such a chance, the most likely first, and so many at most.

    With `is_whole`, of a string that is cut into sentences one is cited at most, which stands for all of it.
    """

    weights: CitationWeights
    min_score: float
    max_per_sentence: int = DEFAULT_PER_SENTENCE
    is_whole: bool = False

    @classmethod
    def usual(cls, weights: CitationWeights) -> CitationRule:
        """What the weights' own fit found to be right."""
        return cls(weights, weights.min_score)


def citable_parts(segments: PromptSegments) -> tuple[int, ...]:
    """The parts of a prompt that can be cited: those of documents and tools that have tokens."""
    counts = segments.num_tokens
    return tuple(
        index for index, part in enumerate(segments.parts) if part.role in CITED_ROLES and counts[index]
    )


@dataclass(frozen=True)
class CitationReader:
    """Reads citations off the fold of one prompt's answers."""

    rule: CitationRule
    reading: Reading

    def citations(self, tokens: Sequence[ReadToken], text: str) -> tuple[Citation, ...]:
        """The citations of an answer, sentence by sentence, the best of each first.

        Args:
            tokens: Of the answer, in order.
            text: The answer.
        """
        return tuple(one for span in sentence_spans(text) for one in self.of_sentence(span, tokens))

    def of_sentence(self, span: Span, tokens: Sequence[ReadToken]) -> list[Citation]:
        """The citations of one sentence of an answer; none where not all of its tokens were watched."""
        own = tokens_in(span, tokens)
        if not own or not self._parts or not all(token.folds for token in own):
            return []
        fold = np.array([token.folds[self._place] for token in own])
        chances = self.rule.weights.chances(fold[:, list(self._parts)].sum(axis=0))
        found: dict[object, Citation] = {}
        for place in np.argsort(-chances, kind="stable"):
            if chances[place] < self.rule.min_score or len(found) == self.rule.max_per_sentence:
                break
            part = self._parts[place]
            string = self.reading.segments.parts[part].id.split("#")[0] if self.rule.is_whole else part
            found.setdefault(string, Citation(*span, part, float(chances[place])))
        return list(found.values())

    @cached_property
    def _parts(self) -> tuple[int, ...]:
        return citable_parts(self.reading.segments)

    @cached_property
    def _place(self) -> int:
        return [group.name for group in self.reading.choice.groups].index(GROUP)


def citation_weights_of(profile: HeadProfile | None) -> CitationWeights | None:
    """What a profile says of citations; None where nobody fitted it.

    Raises:
        ProfileError: it says what this version does not understand.
    """
    section = None if profile is None else profile.section(SECTION)
    return None if section is None else CitationWeights.of_json(section)


def is_watched(weights: CitationWeights, choice: HeadChoice) -> bool:
    """Whether the heads that are watched are folded with these weights."""
    wanted = dict(zip(weights.heads, weights.weights, strict=True))
    return any(
        group.name == GROUP
        and all(
            weight == wanted.get(head, 0.0) for head, weight in zip(choice.heads, group.weights, strict=True)
        )
        and wanted.keys() <= set(choice.heads)
        for group in choice.groups
    )


def citations_of(report: AttentionReport) -> tuple[Citation, ...]:
    """The citations of a reported answer, as its profile's fit would have them; none where there is no fit.

    Raises:
        ProfileError: the profile's section is not usable.
    """
    weights = citation_weights_of(report.reading.profile)
    if weights is None or not is_watched(weights, report.reading.choice):
        return ()
    return CitationReader(CitationRule.usual(weights), report.reading).citations(report.tokens, report.text)
