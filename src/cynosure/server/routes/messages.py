"""Serve `/v1/messages`, Anthropic's. Knows nothing of templates, nor of how a token is chosen."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.models.chat.answer import Part, Said, Thought
from cynosure.models.chat.prompt import ChatPrompt
from cynosure.server.answers.attention import AttentionPlan, AttentionTeller
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.chat_turn import ChatTurn, begin_turn, build_prompt, chat_of
from cynosure.server.answers.continuation import Placed
from cynosure.server.answers.reasoning_switch import without_reasoning
from cynosure.server.presence import while_present
from cynosure.server.protocols import anthropic_error
from cynosure.server.routes.access import Ready, known_query, note_end_user, visit_of
from cynosure.server.schemas.messages import (
    CountRequest,
    MessageBody,
    MessagesRequest,
    MessagesUsage,
    TextContent,
    ThinkingContent,
    TokenCount,
    ToolUseContent,
)
from cynosure.server.services import CompletionModel
from cynosure.server.stream import named_event_stream

# `beta` is what the client's own beta methods add to the address.
router = APIRouter(prefix="/v1/messages", tags=["messages"], dependencies=[Depends(known_query("beta"))])

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

Event = Mapping[str, object]


@router.post("", response_model=MessageBody)
async def create_message(body: MessagesRequest, request: Request, services: Ready) -> MessageBody | Response:
    """Answer a conversation, whole or as a stream; a client that leaves ends it."""
    note_end_user(request, body.end_user)
    model = services.completer(body.model)
    prompt = await _prompt(model, body, from_text=body.is_reproducible)
    attention = AttentionPlan(model, body.attention, lambda: chat_segments(prompt, {}))
    asked = attention.applied(body.asked(prompt.token_ids, body.sampling))
    turn = await begin_turn(model, prompt, body.offer, body.stop_sequences or (), asked)
    answer = _Answer(turn, attention.teller())
    if not body.stream:
        return await while_present(request, answer.whole())
    # What fails before the first token has a status of its own.
    await while_present(request, turn.begin())
    failed = partial(anthropic_error, request_id=visit_of(request).request_id)
    return named_event_stream(answer.events(), failed)


@router.post("/count_tokens")
async def count_tokens(body: CountRequest, services: Ready) -> TokenCount:
    """Say how many tokens a conversation has."""
    prompt = await _prompt(services.completer(body.model), body)
    return TokenCount(input_tokens=len(prompt.token_ids))


async def _prompt(model: CompletionModel, body: CountRequest, *, from_text: bool = False) -> ChatPrompt:
    is_off = body.thinking is not None and body.thinking.type == "disabled"
    variables = without_reasoning(model.name, chat_of(model)) if is_off else {}
    return await build_prompt(model, body.turns, body.offer.tools, variables, from_text=from_text)


@dataclass
class _Answer:
    """One answer in Anthropic's words."""

    turn: ChatTurn
    teller: AttentionTeller | None = None
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    _heard: list[Placed] = field(default_factory=list)

    async def whole(self) -> MessageBody:
        """All of it at once."""
        content: list[TextContent | ThinkingContent | ToolUseContent] = []
        async with aclosing(self._parts()) as coming:
            async for part in coming:
                last = content[-1] if content else None
                if isinstance(part, Said) and isinstance(last, TextContent):
                    last.text += part.text
                elif isinstance(part, Thought) and isinstance(last, ThinkingContent):
                    last.thinking += part.text
                else:
                    content.append(_block(part))
        return self._body(content, is_done=True)

    async def events(self) -> AsyncGenerator[Event]:
        """It in pieces, as they come: blocks that are begun, added to and ended."""
        yield {"type": "message_start", "message": self._body([], is_done=False).model_dump()}
        index, kind = -1, ""
        async with aclosing(self._parts()) as coming:
            async for part in coming:
                if _kind_of(part) != kind or kind == "tool_use":
                    if kind:
                        yield {"type": "content_block_stop", "index": index}
                    index, kind = index + 1, _kind_of(part)
                    block = _empty(_block(part))
                    yield {"type": "content_block_start", "index": index, "content_block": block}
                yield {"type": "content_block_delta", "index": index, "delta": _delta(part)}
        if kind:
            yield {"type": "content_block_stop", "index": index}
        done = self._body([], is_done=True)
        delta = {"stop_reason": done.stop_reason, "stop_sequence": done.stop_sequence}
        last: dict[str, object] = {"type": "message_delta", "delta": delta, "usage": done.usage.model_dump()}
        yield last if done.attention is None else last | {"attention": done.attention.model_dump()}
        yield {"type": "message_stop"}

    async def _parts(self) -> AsyncGenerator[Part]:
        """What is final, as it comes; what its tokens attended to is kept for the end."""
        async with aclosing(self.turn.spoken()) as coming:
            async for spoken in coming:
                self._heard += spoken.tokens
                for part in spoken.parts:
                    yield part

    def _body(
        self, content: list[TextContent | ThinkingContent | ToolUseContent], is_done: bool
    ) -> MessageBody:
        turn = self.turn
        stopped = turn.stop.matched
        reason = _REASONS[turn.finish] if stopped is None or turn.finish == "tool_calls" else "stop_sequence"
        usage = MessagesUsage(
            input_tokens=turn.num_prompt_tokens - turn.num_cached,
            cache_read_input_tokens=turn.num_cached,
            output_tokens=turn.num_tokens,
        )
        told = None if self.teller is None or not is_done else self.teller.piece(self._heard, is_last=True)
        return MessageBody.model_validate(
            {
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "model": turn.model,
                "content": content,
                "stop_reason": reason if is_done else None,
                "stop_sequence": stopped if reason == "stop_sequence" else None,
                "usage": usage,
                **({} if told is None else {"attention": told}),
            }
        )


def _kind_of(part: Part) -> str:
    """The type of a part's block."""
    if isinstance(part, Said):
        return "text"
    return "thinking" if isinstance(part, Thought) else "tool_use"


def _block(part: Part) -> TextContent | ThinkingContent | ToolUseContent:
    if isinstance(part, Said):
        return TextContent(text=part.text)
    if isinstance(part, Thought):
        return ThinkingContent(thinking=part.text)
    return ToolUseContent(id=part.id, name=part.name, input=json.loads(part.arguments))


def _empty(block: TextContent | ThinkingContent | ToolUseContent) -> dict[str, object]:
    """A block as it is begun: what it says comes in deltas."""
    blank = {"text": "", "thinking": "", "input": {}}
    return {name: blank.get(name, value) for name, value in block.model_dump().items()}


def _delta(part: Part) -> dict[str, object]:
    if isinstance(part, Said):
        return {"type": "text_delta", "text": part.text}
    if isinstance(part, Thought):
        return {"type": "thinking_delta", "thinking": part.text}
    return {"type": "input_json_delta", "partial_json": part.arguments}
