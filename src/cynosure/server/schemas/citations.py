"""Shape what an answer cites, in our own form and in that of OpenAI's clients. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cynosure.server.schemas.wire import Count0, Text, WireRequest

MAX_PER_SENTENCE = 16


class CitationsParam(WireRequest):
    """Whether sentences of the answer are to cite parts of the prompt, and which.

    - `min_score`: the least chance that a sentence would be less likely without the source; null leaves it to
      the fit of the model's profile.
    - `max_per_sentence`: the most likely ones, so many at most.
    - `granularity`: whether sentences of documents are cited, or whole ones.
    """

    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    max_per_sentence: Annotated[int, Field(ge=1, le=MAX_PER_SENTENCE)] | None = None
    granularity: Literal["sentence", "part"] = "sentence"


class CitedSource(BaseModel):
    """A stretch of the prompt that a sentence attended to as sentences do to what they are drawn from.

    `id` is the segment's name, `message` and `part` say where in the request it stands, and `start:end` are
    code points of that string. `score` is the chance that the sentence would be less likely without it.
    """

    type: Literal["document", "tool"]
    id: str
    message: int | None
    part: int | None
    start: int | None
    end: int | None
    score: float


class AnswerCitation(BaseModel):
    """A sentence of the answer, `start:end` in code points of what it says, and its sources, best first."""

    start: int
    end: int
    text: str
    sources: list[CitedSource]


class UrlCitation(WireRequest):
    """What OpenAI's clients show of a source: code points of the message, and what to call it."""

    start_index: Count0
    end_index: Count0
    title: Text
    url: Text


class MessageAnnotation(WireRequest):
    """A citation as messages of OpenAI's chat have it; it comes back with the message, unread."""

    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation
