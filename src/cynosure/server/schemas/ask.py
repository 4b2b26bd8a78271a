"""Shape `/v1/ask`, which answers with quotes and what was attended to in them. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from cynosure.server.schemas.wire import Text, WireRequest
from cynosure.server.services import Answer, Quote

MAX_QUOTES = 20


#: What the text of a quote is.
Source: TypeAlias = Literal["docstring", "reference", "file"]


def source_of(source: str, file: str) -> Source:
    """What a store's own word for a text is called on the wire."""
    if file:
        return "file"
    return "reference" if source == "reference" else "docstring"


class AskRequest(WireRequest):
    """A question in anybody's words."""

    question: Text
    max_results: Annotated[int, Field(ge=1, le=MAX_QUOTES)] = 5
    store: Text | None = None


class AttendedWord(BaseModel):
    """Code points `start:end` of the quote's text; the most attended word has weight 1."""

    start: int
    end: int
    weight: float


class HighlightBody(BaseModel):
    """Code points `start:end` of the quote's text: the sentence, item or example that answers best."""

    start: int
    end: int


class QuoteBody(BaseModel):
    """A verbatim slice: code points `start:end` of the object's documentation.

    Quotes are in the order of `score`, a share of 1; `similarity` is the cosine of question and passage.
    Where `file` is not empty, the object is a part of it, and `start:end` count in the file's text; else in
    the object's docstring, or in what the reference documentation says of it, as `source` tells.
    `highlight` is null where no ranker read the sentences.
    """

    text: str
    object: str
    kind: str
    signature: str
    start: int
    end: int
    score: float
    similarity: float
    file: str
    source: Source
    author: Literal["retriever"] = "retriever"
    highlight: HighlightBody | None
    attended: list[AttendedWord]

    @classmethod
    def of(cls, quote: Quote) -> QuoteBody:
        """The quote as it travels."""
        attended = [AttendedWord(start=at.start, end=at.end, weight=at.weight) for at in quote.attended]
        at = quote.highlight
        return cls(
            text=quote.text,
            object=quote.object,
            kind=quote.kind,
            signature=quote.signature,
            start=quote.start,
            end=quote.end,
            score=quote.score,
            similarity=quote.similarity,
            file=quote.file,
            source=source_of(quote.source, quote.file),
            highlight=None if at is None else HighlightBody(start=at.start, end=at.end),
            attended=attended,
        )


class AskResponse(BaseModel):
    """Quotes, best first; none, and the reason, where nothing fits."""

    answered: bool
    reason: str
    quotes: list[QuoteBody]
    confidence: float
    threshold: float
    store: str
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, answer: Answer, store: str) -> AskResponse:
        """The answer as it travels, and as the command line prints it."""
        return cls(
            answered=answer.answered,
            reason=answer.reason,
            quotes=[QuoteBody.of(quote) for quote in answer.quotes],
            confidence=round(answer.confidence, 4),
            threshold=round(answer.threshold, 4),
            store=store,
            timings_ms=dict(answer.timings_ms),
        )
