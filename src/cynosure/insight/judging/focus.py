"""Say how far an answer attended to trusted instructions, and not to other text. Knows nothing of tensors.

After Attention Tracker (2411.00348): where a model follows an instruction that was injected into what it
reads, heads turn from the instruction that it was given to the other text. Plain focus is the trusted share
of what went to trusted and untrusted parts; a model's profile may hold weights of heads that were fitted to
tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cynosure.core.errors import InputError
from cynosure.insight.head_choice import HeadChoice
from cynosure.insight.profile import HeadProfile
from cynosure.insight.profile_section import section_as
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.insight.report import AttentionReport, Reading
from cynosure.insight.tally import TokenShares

#: Sections of a profile, and groups of heads: whether an instruction of untrusted text is followed, and
#: whether there is one.
FOCUS, INJECTION = "focus", "injection"
#: Who writes instructions, and who only writes what is read.
TRUSTED = frozenset({"system", "user", "assistant", "tools"})
UNTRUSTED = frozenset({"document", "tool"})

Count = Annotated[int, Field(ge=0)]


class FocusModel(BaseModel):
    """What was fitted for one model of language: the section `focus` or `injection` of its profile.

    The focus is `1 / (1 + exp(-(intercept + sum of weight * (trusted - untrusted share))))`, of shares that
    are averages over the tokens that are judged.

    - `heads`, `weights`: the fold.
    - `threshold`: below it the answers of the fit were stopped that should be, and one in a hundred of the
      others.
    - `fitted_on`: what these answers were, in words and numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    heads: tuple[tuple[Count, Count], ...]
    weights: tuple[float, ...]
    intercept: float
    threshold: Annotated[float, Field(ge=0, le=1)]
    fitted_on: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _numbers_fit_together(self) -> FocusModel:
        if not self.heads or len(self.heads) != len(self.weights):
            raise ValueError("each head has a weight, and there is a head")
        if list(self.heads) != sorted(set(self.heads)):
            raise ValueError("heads are sorted, each once")
        return self

    @classmethod
    def of_json(cls, section: object) -> FocusModel:
        """Read a profile's section.

        Raises:
            InputError: it is none that this version understands.
        """
        return section_as(cls, section, "of focus", InputError)

    def as_json(self) -> dict[str, Any]:
        """What a profile keeps."""
        return self.model_dump(mode="json")

    def focus_of(self, difference: float) -> float:
        """The focus of what the fold makes of trusted shares, less what it makes of untrusted ones."""
        logit = self.intercept + difference
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


@dataclass(frozen=True)
class Focus:
    """How far tokens attended to what is trusted.

    - `value`: from 0, all to untrusted parts, to 1; `is_fitted`: whether it is by weights of a profile.
    - `attended_to`: the untrusted part that was attended to most, by its id; `share` of it among what went to
      trusted and untrusted parts, on average over the watched heads.
    """

    value: float
    is_fitted: bool
    attended_to: str
    share: float


class FocusTally:
    """Adds up what tokens of one prompt's answer attended to."""

    def __init__(self, reading: Reading, group: str = FOCUS) -> None:
        """Start with nothing; where nothing was fitted, or its heads are not watched, focus is plain."""
        self._parts = reading.segments.parts
        model = focus_model_of(reading.profile, group)
        self._place = None if model is None else _place(reading.choice, group)
        self._model = model if self._place is not None else None
        self._masses = [0.0] * sum(part.is_callers for part in self._parts)
        self._difference = 0.0
        self.num_tokens = 0

    def add(self, shares: TokenShares, folds: Sequence[Sequence[float]] = ()) -> None:
        """Count one token."""
        self.num_tokens += 1
        self._masses = [total + mass for total, mass in zip(self._masses, shares.masses, strict=True)]
        if self._place is not None:
            # Behind those of the parts stands what was generated.
            for part, value in zip(self._parts, folds[self._place], strict=False):
                self._difference += _sign(part.role) * value

    @property
    def focus(self) -> Focus | None:
        """What the tokens so far come to; None before the first, and where nothing is untrusted."""
        callers = [part for part in self._parts if part.is_callers]
        untrusted = [
            (mass, part.id)
            for part, mass in zip(callers, self._masses, strict=True)
            if part.role in UNTRUSTED
        ]
        if not self.num_tokens or not untrusted:
            return None
        trusted = sum(mass for part, mass in zip(callers, self._masses, strict=True) if part.role in TRUSTED)
        both = trusted + sum(mass for mass, _ in untrusted)
        most, attended_to = max(untrusted, key=lambda pair: pair[0])
        # What attends to neither attends to nothing that is untrusted.
        value = trusted / both if both > 0 else 1.0
        if self._model is not None:
            value = self._model.focus_of(self._difference / self.num_tokens)
        return Focus(value, self._model is not None, attended_to, most / both if both > 0 else 0.0)


def focus_model_of(profile: HeadProfile | None, group: str = FOCUS) -> FocusModel | None:
    """What was fitted for a model; None where nothing was.

    Raises:
        InputError: the section is none that this version understands.
    """
    section = None if profile is None else profile.section(group)
    return None if section is None else FocusModel.of_json(section)


def is_divided(segments: PromptSegments) -> bool:
    """Whether a prompt holds text that nobody wrote who is trusted."""
    return any(
        part.role in UNTRUSTED and count
        for part, count in zip(segments.parts, segments.num_tokens, strict=True)
    )


def focus_of(report: AttentionReport, group: str = FOCUS) -> Focus | None:
    """The focus of a reported answer; tokens that were not watched, or spell nothing, do not count."""
    tally = FocusTally(report.reading, group)
    for token in report.tokens:
        if token.shares is not None and token.text.strip():
            tally.add(token.shares, token.folds)
    return tally.focus


def _sign(role: str) -> int:
    return 1 if role in TRUSTED else -1 if role in UNTRUSTED else 0


def _place(choice: HeadChoice, group: str) -> int | None:
    return next((place for place, one in enumerate(choice.groups) if one.name == group), None)
