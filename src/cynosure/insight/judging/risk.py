"""Say how likely a sentence of an answer is not grounded in what was given. Knows nothing of tensors or HTTP.

The number comes from attention alone, was fitted and calibrated on labelled answers of one model, and is told
only where those answers were like this one. It is no score of truth: a document may be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from cynosure.core.errors import ProfileError
from cynosure.insight.head_choice import HeadChoice
from cynosure.insight.judging.sentence_features import (
    FITTED,
    RETRIEVED,
    Fold,
    given_documents,
    sentence_features,
)
from cynosure.insight.logistic import chance
from cynosure.insight.probing import Head
from cynosure.insight.profile import HeadProfile
from cynosure.insight.profile_section import section_as
from cynosure.insight.report import AttentionReport, Reading, ReadToken
from cynosure.insight.sentences import Span, sentence_spans

#: What the section of a profile is called, and the group of its heads; and the group of those that retrieve.
RISK, RETRIEVAL = "risk", "retrieval"

Count = Annotated[int, Field(ge=0)]


class RiskModel(BaseModel):
    """What was fitted for one model of language: the section `risk` of its profile.

    - `heads`, `weights`: the fold that `features` are read off.
    - `retrieval`: heads whose mean other features are read off, the group `retrieval` of the profile; may be
      empty.
    - `intercept`, `coefficients`: log-odds of a sentence that is not grounded, before calibration.
    - `calibration`: by what these log-odds are multiplied, and what is added.
    - `ranges`: the least and the most of each feature among the answers of the fit; `num_tokens` of their
      prompts, and `num_documents`. Beyond them the risk is unknown.
    - `fitted_on`: what these answers were, in words and numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    heads: tuple[tuple[Count, Count], ...]
    weights: tuple[float, ...]
    retrieval: tuple[tuple[Count, Count], ...]
    features: tuple[Literal["lookback", "lookback_peak", "generated", "hits", "hit_peak", "spread"], ...]
    intercept: float
    coefficients: tuple[float, ...]
    calibration: tuple[float, float]
    ranges: tuple[tuple[float, float], ...]
    num_tokens: tuple[Count, Count]
    num_documents: tuple[Count, Count]
    fitted_on: dict[str, JsonValue]

    @model_validator(mode="after")
    def _numbers_fit_together(self) -> RiskModel:
        if self.features != (FITTED + RETRIEVED if self.retrieval else FITTED):
            raise ValueError("features are not those of this version")
        if not len(self.features) == len(self.coefficients) == len(self.ranges):
            raise ValueError("each feature has a coefficient and a range")
        if not self.heads or len(self.heads) != len(self.weights):
            raise ValueError("each head has a weight, and there is a head")
        return self

    @classmethod
    def of_json(cls, section: object) -> RiskModel:
        """Read a profile's section.

        Raises:
            ProfileError: it is none that this version understands.
        """
        return section_as(cls, section, repr(RISK), ProfileError)

    def as_json(self) -> dict[str, object]:
        """What a profile keeps."""
        return self.model_dump(mode="json")

    def risk_of(self, features: Float[np.ndarray, " features"]) -> float:
        """The chance that a sentence with these numbers is not grounded, wherever they lie."""
        slope, added = self.calibration
        logit = self.intercept + features @ np.array(self.coefficients)
        return float(chance(np.array([slope * logit + added]))[0])

    def doubt(
        self, features: Float[np.ndarray, " features"], num_tokens: int, num_documents: int
    ) -> str | None:
        """Why nothing is known of such a sentence; None where it is like those of the fit."""
        told = [
            ("the prompt's length in tokens", num_tokens, self.num_tokens),
            ("the number of documents", num_documents, self.num_documents),
            *(
                (f"its {name}", value, of)
                for name, value, of in zip(self.features, features, self.ranges, strict=True)
            ),
        ]
        for what, value, (low, high) in told:
            if not low <= value <= high:
                return f"{what} is {value:.4g}, and the risk was calibrated for {low:.4g} to {high:.4g}"
        return None


@dataclass(frozen=True)
class SentenceRisk:
    """A sentence `start:end` of an answer, in code points, and its risk; or why nothing is known of it."""

    start: int
    end: int
    risk: float | None
    reason: str | None = None


@dataclass(frozen=True)
class RiskReader:
    """Reads risks off the folds of one prompt's answers."""

    model: RiskModel
    reading: Reading

    def sentences(self, tokens: Sequence[ReadToken], text: str) -> tuple[SentenceRisk, ...]:
        """The risk of each sentence of an answer.

        Args:
            tokens: Of the answer, in order.
            text: The answer. Tokens may spell more behind its end.
        """
        return tuple(self._told(span, tokens) for span in sentence_spans(text))

    def features(self, tokens: Sequence[ReadToken]) -> Float[np.ndarray, " features"] | str:
        """The numbers of a sentence's tokens, or why there are none."""
        if not self._documents:
            return "no part of the prompt is a document, which an answer could be grounded in"
        missing = self._missing
        if missing is not None:
            return (
                f"the heads of {missing!r} that it was fitted on are not watched; leave them to the profile"
            )
        if not tokens or not all(token.folds for token in tokens):
            return "not all of its tokens were watched"
        retrieved = self._fold(RETRIEVAL, tokens) if self.model.retrieval else None
        return sentence_features(self._documents, self._fold(RISK, tokens), retrieved)

    def doubt(self, features: Float[np.ndarray, " features"]) -> str | None:
        """Why nothing is known of a sentence with these numbers; None where it is like those of the fit."""
        return self.model.doubt(features, len(self.reading.segments.owners), len(self._documents))

    def _told(self, span: Span, tokens: Sequence[ReadToken]) -> SentenceRisk:
        features = self.features(tokens_in(span, tokens))
        if isinstance(features, str):
            return SentenceRisk(*span, None, features)
        reason = self.doubt(features)
        return SentenceRisk(*span, None if reason else self.model.risk_of(features), reason)

    @cached_property
    def _documents(self) -> tuple[tuple[int, ...], ...]:
        return given_documents(self.reading.segments)

    @cached_property
    def _missing(self) -> str | None:
        """A group that is not watched, or not of the heads of the fit."""
        needed = ((RISK, self.model.heads), (RETRIEVAL, self.model.retrieval))
        choice = self.reading.choice
        return next((name for name, heads in needed if heads and _heads_of(choice, name) != set(heads)), None)

    def _fold(self, group: str, tokens: Sequence[ReadToken]) -> Fold:
        place = _place(self.reading.choice, group)
        assert place is not None
        return np.array([token.folds[place] for token in tokens])


def _heads_of(choice: HeadChoice, group: str) -> set[Head]:
    """The heads that a group has a weight for; none where there is no such group."""
    place = _place(choice, group)
    weights = () if place is None else choice.groups[place].weights
    return {head for head, weight in zip(choice.heads, weights, strict=False) if weight}


def _place(choice: HeadChoice, group: str) -> int | None:
    return next((place for place, one in enumerate(choice.groups) if one.name == group), None)


def tokens_in(span: Span, tokens: Sequence[ReadToken]) -> list[ReadToken]:
    """The tokens whose text begins in a sentence; white space before a word is the word's."""
    start, end = span
    return [token for token in tokens if start <= _first_of(token) < end]


def _first_of(token: ReadToken) -> int:
    return token.start + len(token.text) - len(token.text.lstrip())


def risk_model_of(profile: HeadProfile | None) -> RiskModel | None:
    """What a profile says of risk; None where nobody fitted it.

    Raises:
        ProfileError: it says what this version does not understand.
    """
    section = None if profile is None else profile.section(RISK)
    return None if section is None else RiskModel.of_json(section)


def risks_of(report: AttentionReport) -> tuple[SentenceRisk, ...]:
    """The risk of each sentence of a reported answer; nothing where no profile has been fitted for it.

    Raises:
        ProfileError: the profile's section is not usable.
    """
    model = risk_model_of(report.reading.profile)
    return () if model is None else RiskReader(model, report.reading).sentences(report.tokens, report.text)


def largest(risks: Sequence[SentenceRisk]) -> float | None:
    """The largest risk that is known; None where none is."""
    return max((one.risk for one in risks if one.risk is not None), default=None)
