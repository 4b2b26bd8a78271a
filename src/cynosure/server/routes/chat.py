"""Serve `/v1/chat/completions`. Knows nothing of templates, nor of how a token is chosen."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.models.chat_answer import Part, Said, Thought
from cynosure.models.tool_calls import ToolCall
from cynosure.server.chat_turn import ChatTurn, begin_turn, build_prompt, room_after
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.chat import (
    AnswerMessage,
    Call,
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
)
from cynosure.server.schemas.completions import PromptTokensDetails, Usage
from cynosure.server.stream import event_stream

router = APIRouter(tags=["chat"], dependencies=[Depends(known_query())])


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def create_chat_completion(
    body: ChatRequest, request: Request, services: Ready
) -> ChatCompletion | Response:
    """Answer a conversation, whole or as a stream; a client that leaves ends it."""
    model = services.completer(body.model)
    tools = body.offered
    variables = dict[str, object](body.chat_template_kwargs or {})
    prompt = await build_prompt(model, body.turns, tools, variables)
    sampling = body.sampling(body.max_completion_tokens or room_after(model, prompt))
    answer = _Answer(await begin_turn(model, prompt, tools, body.stops, sampling))
    if body.stream:
        return event_stream(
            answer.events(body.stream_options is not None and body.stream_options.include_usage)
        )
    return await answer.whole(request)


@dataclass
class _Answer:
    """One answer in OpenAI's words."""

    turn: ChatTurn
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self, request: Request) -> ChatCompletion:
        """All of it at once."""
        parts: list[Part] = []
        async with aclosing(self.turn.parts()) as coming:
            async for part in coming:
                parts.append(part)
                if await request.is_disconnected():
                    break
        said = "".join(part.text for part in parts if isinstance(part, Said))
        thought = "".join(part.text for part in parts if isinstance(part, Thought))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        message = AnswerMessage(role="assistant", content=said or (None if calls else ""), refusal=None)
        if thought:
            message.reasoning_content = thought
        if calls:
            message.tool_calls = [
                Call(id=call.id, type="function", function=_function(call.name, call.arguments))
                for call in calls
            ]
        choice = ChatChoice(message=message, finish_reason=self.turn.finish)
        return ChatCompletion(
            id=self.id, created=self.created, model=self.turn.model, choices=[choice], usage=self._usage()
        )

    async def events(self, wants_usage: bool) -> AsyncGenerator[Mapping[str, object]]:
        """It in pieces, as they come."""
        first = AnswerMessage(role="assistant", content="", refusal=None)
        yield self._event(ChunkChoice(delta=first), wants_usage)
        async with aclosing(self.turn.parts()) as coming:
            async for part in coming:
                for delta in _deltas(part):
                    yield self._event(ChunkChoice(delta=delta), wants_usage)
        last = ChunkChoice(delta=AnswerMessage(), finish_reason=self.turn.finish)
        yield self._event(last, wants_usage)
        if wants_usage:
            yield self._chunk([], self._usage()).model_dump()

    def _event(self, choice: ChunkChoice, wants_usage: bool) -> dict[str, object]:
        # Clients that asked for usage get the field in each piece, null until the last.
        return self._chunk([choice]).model_dump(exclude=None if wants_usage else {"usage"})

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self.id, created=self.created, model=self.turn.model, choices=choices, usage=usage
        )

    def _usage(self) -> Usage:
        turn = self.turn
        return Usage(
            prompt_tokens=turn.num_prompt_tokens,
            completion_tokens=turn.num_tokens,
            total_tokens=turn.num_prompt_tokens + turn.num_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=turn.num_cached),
        )


def _deltas(part: Part) -> Iterator[AnswerMessage]:
    """A call comes in two pieces, as clients expect: what is called, then with what."""
    if isinstance(part, Thought):
        yield AnswerMessage(reasoning_content=part.text)
    elif isinstance(part, Said):
        yield AnswerMessage(content=part.text)
    else:
        first = Call(index=part.index, id=part.id, type="function", function=_function(part.name, ""))
        yield AnswerMessage(tool_calls=[first])
        rest = Call(index=part.index, function=CalledFunction(arguments=part.arguments))
        yield AnswerMessage(tool_calls=[rest])


def _function(name: str, arguments: str) -> CalledFunction:
    return CalledFunction(name=name, arguments=arguments)
