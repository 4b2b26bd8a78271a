"""Shape how failures travel in each protocol. Computes nothing, and is read by descriptions only."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """What went wrong, in a sentence and in a word; `param` is the field that it is about."""

    message: str
    type: str
    param: str | None
    code: str


class Failure(BaseModel):
    """OpenAI's shape, and ours."""

    error: ErrorBody


class RerankFailure(Failure):
    """Cohere's clients read the message at the top."""

    id: str
    message: str


class AnthropicError(BaseModel):
    """What went wrong, in Anthropic's words."""

    type: str
    message: str


class AnthropicFailure(BaseModel):
    """Anthropic's shape."""

    type: Literal["error"]
    error: AnthropicError
    request_id: str


class Unready(BaseModel):
    """Why questions are not answered yet, or any more."""

    status: Literal["loading", "failed", "restarting", "draining"]
    stage: str | None = None
    done: int | None = None
    total: int | None = None
    error: dict[str, Any] | None = None
