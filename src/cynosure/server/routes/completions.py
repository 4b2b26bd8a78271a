"""Serve `/v1/completions`. Knows nothing of how a token is chosen."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.server.routes.access import Compute, Ready, known_query
from cynosure.server.schemas.completions import (
    Choice,
    Completion,
    CompletionRequest,
    PromptTokensDetails,
    Usage,
)
from cynosure.server.services import Token
from cynosure.server.stop_text import StopText
from cynosure.server.stream import event_stream

router = APIRouter(tags=["completions"], dependencies=[Depends(known_query())])

#: What OpenAI's reference documents where `max_tokens` is left out.
DEFAULT_MAX_TOKENS = 16

FinishReason = Literal["stop", "length"]


@dataclass
class _Continuation:
    """One request under way: its text so far, and what it cost."""

    model: str
    num_prompt_tokens: int
    stop: StopText
    tokens: AsyncGenerator[Token]
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    num_tokens: int = 0
    num_cached: int = 0
    finish_reason: FinishReason = "length"

    async def pieces(self) -> AsyncGenerator[str]:
        """Text that is final, as it comes; sets `finish_reason` by its end."""
        async with aclosing(self.tokens):
            async for token in self.tokens:
                self.num_tokens += 1
                self.num_cached = token.num_cached
                text = self.stop.push(token.text)
                if self.stop.is_stopped or token.finish_reason == "stop":
                    self.finish_reason = "stop"
                if text:
                    yield text
                if self.stop.is_stopped:
                    break
        rest = self.stop.finish()
        if rest:
            yield rest

    def part(self, text: str, finish_reason: FinishReason | None = None) -> Completion:
        """A completion with this text."""
        choices = [Choice(text=text, finish_reason=finish_reason)]
        return Completion(id=self.id, created=self.created, model=self.model, choices=choices)

    @property
    def usage(self) -> Usage:
        """What it cost so far."""
        total = self.num_prompt_tokens + self.num_tokens
        return Usage(
            prompt_tokens=self.num_prompt_tokens,
            completion_tokens=self.num_tokens,
            total_tokens=total,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self.num_cached),
        )


@router.post("/v1/completions", response_model=Completion)
async def create_completion(
    body: CompletionRequest, request: Request, services: Ready, compute: Compute
) -> Completion | Response:
    """Continue a prompt, whole or as a stream; a client that leaves ends it."""
    model = services.completer(body.model)
    prompt = body.one_prompt
    token_ids = await compute.run(lambda: model.encode(prompt)) if isinstance(prompt, str) else prompt
    sampling = body.sampling(DEFAULT_MAX_TOKENS)
    # What is wrong with constraint or prompt shows here, while a status can still say so.
    await model.prepare(sampling)
    tokens = model.complete(token_ids, sampling)
    under_way = _Continuation(model.name, len(token_ids), StopText(body.stops), tokens)
    if body.stream:
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        return event_stream(_events(under_way, wants_usage))
    return await _whole(under_way, request)


async def _whole(under_way: _Continuation, request: Request) -> Completion:
    texts = []
    async with aclosing(under_way.pieces()) as pieces:
        async for text in pieces:
            texts.append(text)
            if await request.is_disconnected():
                break
    return under_way.part("".join(texts), under_way.finish_reason).model_copy(
        update={"usage": under_way.usage}
    )


async def _events(under_way: _Continuation, wants_usage: bool) -> AsyncGenerator[Mapping[str, object]]:
    async with aclosing(under_way.pieces()) as pieces:
        async for text in pieces:
            yield _event(under_way.part(text), wants_usage)
    yield _event(under_way.part("", under_way.finish_reason), wants_usage)
    if wants_usage:
        last = under_way.part("").model_copy(update={"choices": [], "usage": under_way.usage})
        yield _event(last, wants_usage)


def _event(part: Completion, wants_usage: bool) -> dict[str, object]:
    # Clients that asked for usage get the field in each part, null until the last.
    return part.model_dump(exclude=None if wants_usage else {"usage"})
