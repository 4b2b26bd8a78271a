"""Shape the `attention` of requests and answers: what is told, weighed and denied. Computes nothing."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from cynosure.engine.watch import MAX_BIAS, MAX_HEADS
from cynosure.server.schemas.citations import AnswerCitation, CitationsParam
from cynosure.server.schemas.wire import Count0, Count1, Piece, Text, WireRequest

MAX_EVERY, MAX_TOP_K, MAX_NAMED, MAX_SPANS = 1024, 64, 64, 200

#: What parts of a prompt are called without a caller's word.
RESERVED = frozenset(
    {"system", "user", "assistant", "tool", "tools", "template", "sink", "generated", "prompt"}
)


def _is_free(name: str) -> str:
    head = re.split("[:.#]", name)[0]
    if head in RESERVED:
        raise ValueError(f"{head!r} is what parts of every prompt are called; choose another name")
    return name


#: A caller's name for a part of what he sends: `doc:4`.
SegmentName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_.-]{1,64})?$"), AfterValidator(_is_free)
]
NamedSegment = Annotated[Text, Field(min_length=1, max_length=120)]

#: A layer and a query head in it.
Head = Annotated[list[Count0], Field(min_length=2, max_length=2)]
Level = Literal["off", "summary", "topk", "full"]
#: How much is kept of an answer (`insight/trace_level.py`).
TraceWord = Literal["off", "L0", "L1", "L2", "L3"]


class SegmentBias(WireRequest):
    """What is added to the scores of a segment's tokens, in nats, wherever the model looks for them."""

    segment: NamedSegment
    add: Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]


class AttentionParam(WireRequest):
    """What is to be told of attention, and what is changed of it.

    `summary` tells how much each segment was attended to, `topk` adds the most attended ones by token, and
    `full` all of them. `bias` and `deny` hold for the whole prompt and answer, whatever is told. `trace` is
    the most that may be kept of it for later; the server's own level is never passed. `citations` are told at
    every level. With `tool_focus_min`, calls of functions are handed out only where the tokens that they were
    written in had at least that focus on trusted instructions.
    """

    level: Level = "off"
    heads: Literal["auto"] | Annotated[list[Head], Field(min_length=1, max_length=MAX_HEADS)] | None = None
    every: Annotated[int, Field(ge=1, le=MAX_EVERY)] | None = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] | None = None
    bias: Annotated[list[SegmentBias], Field(max_length=MAX_NAMED)] | None = None
    deny: Annotated[list[NamedSegment], Field(max_length=MAX_NAMED)] | None = None
    trace: TraceWord | None = None
    tool_focus_min: Annotated[float, Field(ge=0, le=1)] | None = None
    citations: CitationsParam | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> AttentionParam:
        if self.citations is not None and (self.chosen_heads is not None or (self.every or 1) > 1):
            raise ValueError("citations read the profile's heads at each token: leave heads and every out")
        if self.level == "off" and (self.heads is not None or self.every is not None):
            raise ValueError("heads and every say what is watched, and level is off")
        if self.top_k is not None and self.level != "topk":
            raise ValueError("top_k needs level topk")
        named = [*(one.segment for one in self.bias or ()), *(self.deny or ())]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"bias and deny name {twice!r} more than once")
        return self

    @property
    def chosen_heads(self) -> tuple[tuple[int, int], ...] | None:
        """The heads that are asked for by number; None leaves them to us."""
        if not isinstance(self.heads, list):
            return None
        return tuple(sorted({(layer, head) for layer, head in self.heads}))


class NamedSpan(WireRequest):
    """A stretch of a prompt and what the caller calls it, in Unicode code points."""

    id: SegmentName
    start: Count0
    end: Count1


class TextAttentionParam(AttentionParam):
    """The same of a prompt that is one text, whose parts a caller may name by where they stand."""

    segments: Annotated[list[NamedSpan], Field(min_length=1, max_length=MAX_SPANS)] | None = None

    @model_validator(mode="after")
    def _spans_follow_each_other(self) -> TextAttentionParam:
        place = 0
        for span in self.segments or ():
            if not place <= span.start < span.end:
                raise ValueError(
                    f"segment {span.id!r} is {span.start}..{span.end}: they are sorted and apart"
                )
            place = span.end
        return self


class SegmentSource(BaseModel):
    """Where in the request a segment stands, from 0; `part` is null for a content that is one string."""

    message: int
    part: int | None


class AttendedSegment(BaseModel):
    """A part of the prompt and the share of attention that it got, on average over the watched tokens.

    `start:end` are Unicode code points of the caller's own string; null where it is no text.
    """

    id: str
    role: str
    source: SegmentSource | None
    start: int | None
    end: int | None
    num_tokens: int
    mass: float


class AttendedToken(BaseModel):
    """What one token attended to when it was chosen; with `topk`, the most attended segments."""

    index: int
    mass: dict[str, float]
    sink_mass: float
    template_mass: float
    generated_mass: float
    entropy_bits: float


class AttendedSentence(Piece):
    """A sentence of the answer, in code points of what it says, and how likely it is not grounded.

    `risk` is the chance that documents and results of tools did not tell it, among answers like those that
    the model's profile was fitted on; null where the answer is not like them, and `risk_unknown_reason` says
    why.
    """

    start: int
    end: int
    risk: float | None
    risk_unknown_reason: str | None = None


class AttentionCoverage(BaseModel):
    """Which share of all heads, of all layers and of the answer's tokens was watched, and why it is these."""

    heads: float
    layers: float
    tokens: float
    reason: str


class CitationAudits(BaseModel):
    """How far this model's citations have held, of those that were put to the test since its start.

    In an audit the cited part is taken away: the citation held if its sentence is then less likely, by more
    than where another part is. `mean_drop_nats` is by how much, on average; `rank_correlation` is that of
    scores and such drops. `is_alarmed`: fewer hold than should, beyond doubt.
    """

    num: int
    held: float
    mean_drop_nats: float
    rank_correlation: float | None
    is_alarmed: bool


class Attention(Piece):
    """What an answer attended to; a piece of a stream has its tokens alone, the last one all else.

    The masses of segments, sink, template and what was generated sum to 1. Where the model's profile was
    fitted for it, `sentences` have a risk, and `risk` is the largest that is known; null where none is.
    `citations` come in a stream when their sentence has ended. Where a document or a tool's answer is in the
    prompt, `focus` says how far trusted instructions were attended to, from 0 to 1: their share, or, where
    `focus_is_fitted`, by weights of the profile, which may also tell how likely such a part holds an
    instruction of its own (`injection`).
    """

    level: Level | None = None
    segments: list[AttendedSegment] | None = None
    sink_mass: float | None = None
    template_mass: float | None = None
    generated_mass: float | None = None
    entropy_bits: float | None = None
    num_tokens: int | None = None
    coverage: AttentionCoverage | None = None
    citations: list[AnswerCitation] | None = None
    audits: CitationAudits | None = None
    focus: float | None = None
    focus_is_fitted: bool | None = None
    injection: float | None = None
    risk: float | None = None
    sentences: list[AttendedSentence] | None = None
    tokens: list[AttendedToken] | None = None
