"""Shape `/score`, as vLLM's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.server.schemas.rerank import NonEmpty
from cynosure.server.schemas.wire import Text, WireRequest, Zero

MAX_PAIRS = 1000

Texts = NonEmpty | Annotated[list[NonEmpty], Field(min_length=1, max_length=MAX_PAIRS)]


class ScoreRequest(WireRequest):
    """Two texts, one text against many, or as many against as many, pair by pair.

    Fields with one permitted value are known and not served otherwise.
    """

    model: Text
    text_1: Texts
    text_2: Texts
    truncate_prompt_tokens: None = None
    priority: Zero | None = None

    @model_validator(mode="after")
    def _as_many_against_as_many(self) -> ScoreRequest:
        first, second = self._firsts, self._seconds
        if len(first) not in (1, len(second)):
            raise ValueError(
                f"text_1 has {len(first)} texts and text_2 {len(second)}; one, or as many, go together"
            )
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs, in their order."""
        seconds = self._seconds
        firsts = self._firsts
        return list(zip(firsts * len(seconds) if len(firsts) == 1 else firsts, seconds, strict=True))

    @property
    def _firsts(self) -> list[str]:
        return [self.text_1] if isinstance(self.text_1, str) else self.text_1

    @property
    def _seconds(self) -> list[str]:
        return [self.text_2] if isinstance(self.text_2, str) else self.text_2


class ScoreData(BaseModel):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreUsage(BaseModel):
    """Tokens read, special ones included."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0


class ScoreResponse(BaseModel):
    """Scores in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreData]
    usage: ScoreUsage
