"""Shape how an answer is held to quotes of given texts, and how it is told which they are. Computes nothing.

The fields are our own, and the same on every route that has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.core.errors import InputError
from cynosure.engine import constraints
from cynosure.engine.constraints import MAX_MIN_CHARS, MAX_TEXTS, Constraint
from cynosure.server.schemas.attention import SegmentName
from cynosure.server.schemas.wire import Text, WireRequest

#: What segments are called whose texts are quoted where a request names none: `doc:1`.
DOCUMENT = "doc"

Texts = Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1, max_length=MAX_TEXTS)]
Segments = Annotated[list[SegmentName], Field(min_length=1, max_length=MAX_TEXTS)]


class GroundingParam(WireRequest):
    """Which texts an answer quotes, and how many characters a quote has at least.

    `texts` are given here; `segments` are parts of the prompt by their names. Without either, all parts are
    meant whose names begin with `doc:`.
    """

    type: Literal["verbatim"]
    texts: Texts | None = None
    segments: Segments | None = None
    min_chars: Annotated[int, Field(ge=1, le=MAX_MIN_CHARS)] = 1

    @model_validator(mode="after")
    def _texts_come_from_one_place(self) -> GroundingParam:
        if self.texts is not None and self.segments is not None:
            raise ValueError("texts and segments: give one of them")
        return self


Grounding = Literal["verbatim"] | GroundingParam


@dataclass(frozen=True)
class QuotedTexts:
    """The texts that an answer is held to, and their names where they are parts of the prompt."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    min_chars: int

    @classmethod
    def of(
        cls, asked: Grounding | None, segments: Sequence[tuple[str, str]], how_named: str
    ) -> QuotedTexts | None:
        """Read what is asked.

        Args:
            asked: the field.
            segments: the parts of the prompt that have names, with their texts.
            how_named: how a request names parts, for who named none.

        Raises:
            InputError: no part has such a name.
        """
        if asked is None:
            return None
        param = asked if isinstance(asked, GroundingParam) else GroundingParam(type="verbatim")
        if param.texts is not None:
            return cls(tuple(param.texts), (), param.min_chars)
        known = [name for name, _ in segments]
        wanted = param.segments or [name for name in known if name.split(":")[0] == DOCUMENT]
        if not wanted:
            raise InputError(
                f"grounding names no text to quote, and no part of the prompt is one. {how_named}"
            )
        stranger = next((name for name in wanted if name not in known), None)
        if stranger is not None:
            named = ", ".join(dict.fromkeys(known)) or "none"
            raise InputError(
                f"grounding names segment {stranger!r}; named here: {named[:200]}. Name one of them."
            )
        chosen = [(name, text) for name, text in segments if name in wanted and text]
        texts, names = [text for _, text in chosen], [name for name, _ in chosen]
        return cls(tuple(texts), tuple(names), param.min_chars)

    @property
    def constraint(self) -> Constraint:
        """What the engine is asked.

        Raises:
            InputError, InputTooLong: the texts are not usable.
        """
        return constraints.verbatim(self.texts, min_chars=self.min_chars)


class GroundedSpan(BaseModel):
    """A quote: `start:end` in the answer, `text_start:text_end` in the text, all in Unicode code points.

    `text` counts the texts of the request from 0; `segment` is its name where it is a part of the prompt.
    """

    author: Literal["constraint"] = "constraint"
    start: int
    end: int
    text: int
    segment: str | None
    text_start: int
    text_end: int


class GroundingReport(BaseModel):
    """Of which quotes an answer is made; what stands in no span was quoted from nowhere."""

    type: Literal["verbatim"] = "verbatim"
    spans: list[GroundedSpan]
