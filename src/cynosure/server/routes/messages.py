"""Serve `/v1/messages`, Anthropic's. Knows nothing of templates, nor of how a token is chosen."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.models.chat.answer import Part, Said, Thought
from cynosure.models.chat.prompt import ChatPrompt
from cynosure.server.answers.attention import AttentionPlan, AttentionTeller
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.chat_turn import ChatTurn, Spoken, begin_turn, build_prompt, chat_of
from cynosure.server.answers.cited_blocks import CitedText
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
Content: TypeAlias = TextContent | ThinkingContent | ToolUseContent


@router.post("", response_model=MessageBody)
async def create_message(body: MessagesRequest, request: Request, services: Ready) -> MessageBody | Response:
    """Answer a conversation, whole or as a stream; a client that leaves ends it."""
    note_end_user(request, body.end_user)
    model = services.completer(body.model)
    prompt = await _prompt(model, body, from_text=body.is_reproducible)
    notes = visit_of(request).guard if body.offer.callable_names else None
    attention = AttentionPlan(model, body.watched, lambda: chat_segments(prompt, body.segment_names), notes)
    asked = attention.applied(body.asked(prompt.token_ids, body.sampling))
    turn = await begin_turn(model, prompt, body.offer, body.stop_sequences or (), asked, attention.gate)
    is_told = body.attention is not None
    cited = [document for _, document in body.documents if document.is_cited]
    answer = _Answer(
        turn,
        attention.teller() if is_told else None,
        attention.teller() if cited else None,
        CitedText(cited),
    )
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
    #: Tells what sentences cite, as they end, where documents are to be cited.
    citer: AttentionTeller | None = None
    cited: CitedText = field(default_factory=lambda: CitedText(()))
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    _heard: list[Placed] = field(default_factory=list)
    _num_given: int = 0

    async def whole(self) -> MessageBody:
        """All of it at once."""
        content: list[Content] = []
        async with aclosing(self._parts()) as coming:
            async for part in coming:
                last = content[-1] if content else None
                if isinstance(part, Said) and isinstance(last, TextContent):
                    last.text += part.text
                elif isinstance(part, Thought) and isinstance(last, ThinkingContent):
                    last.thinking += part.text
                else:
                    content.append(_block(part))
        return self._body(self._in_blocks(content), is_done=True)

    def _in_blocks(self, content: Sequence[Content]) -> list[Content]:
        """Texts cut into what cites and what does not."""
        if self.citer is None:
            return list(content)
        blocks, place = list[Content](), 0
        for block in content:
            if not isinstance(block, TextContent):
                blocks.append(block)
                continue
            for text, locations in self.cited.blocks(block.text, place):
                blocks.append(TextContent(type="text", text=text, citations=locations))
            place += len(block.text)
        return blocks

    async def events(self) -> AsyncGenerator[Event]:
        """It in pieces, as they come: blocks that are begun, added to and ended."""
        yield {"type": "message_start", "message": self._body([], is_done=False).model_dump()}
        index, kind = -1, ""
        async with aclosing(self._parts()) as coming:
            async for whole in coming:
                for begins, part in self._cut(whole):
                    if begins or _kind_of(part) != kind or kind == "tool_use":
                        for event in self._ended(index, kind):
                            yield event
                        index, kind = index + 1, _kind_of(part)
                        block = _empty(_block(part))
                        yield {"type": "content_block_start", "index": index, "content_block": block}
                    yield {"type": "content_block_delta", "index": index, "delta": _delta(part)}
                    self._num_given += len(part.text) if isinstance(part, Said) else 0
        for event in self._ended(index, kind):
            yield event
        done = self._body([], is_done=True)
        delta = {"stop_reason": done.stop_reason, "stop_sequence": done.stop_sequence}
        last: dict[str, object] = {"type": "message_delta", "delta": delta, "usage": done.usage.model_dump()}
        told = {"attention": done.attention, "stopped_call": done.stopped_call}
        yield last | {name: one.model_dump() for name, one in told.items() if one is not None}
        yield {"type": "message_stop"}

    def _cut(self, part: Part) -> list[tuple[bool, Part]]:
        """A part as it is, or where documents are cited in sentences, and whether each begins a block."""
        if self.citer is None or not isinstance(part, Said):
            return [(False, part)]
        first, *others = self.cited.hear(part.text)
        pieces: list[tuple[bool, Part]] = [(True, Said(text)) for text in others]
        return [(False, Said(first)), *pieces] if first else pieces

    def _ended(self, index: int, kind: str) -> Iterator[Event]:
        """The end of a block, where one is open, with what its sentences cite."""
        if not kind:
            return
        for location in self.cited.cited_before(self._num_given):
            delta = {"type": "citations_delta", "citation": location.model_dump()}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}

    def _cite(self, spoken: Spoken | None) -> None:
        """Note what sentences cite that have ended; all, where nothing more is said."""
        if self.citer is None:
            return
        for part in () if spoken is None else spoken.parts:
            if isinstance(part, Said):
                self.citer.hear(part.text)
        told = self.citer.piece(() if spoken is None else spoken.tokens, is_last=spoken is None)
        self.cited.cite((told and told.citations) or ())

    async def _parts(self) -> AsyncGenerator[Part]:
        """What is final, as it comes; what its tokens attended to is kept for the end."""
        async with aclosing(self.turn.spoken()) as coming:
            async for spoken in coming:
                self._cite(spoken)
                self._heard += spoken.tokens
                for part in spoken.parts:
                    if self.teller is not None and isinstance(part, Said):
                        self.teller.hear(part.text)
                    yield part
        self._cite(None)

    def _body(self, content: list[Content], is_done: bool) -> MessageBody:
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
                **({} if turn.stopped_call is None or not is_done else {"stopped_call": turn.stopped_call}),
            }
        )


def _kind_of(part: Part) -> str:
    """The type of a part's block."""
    if isinstance(part, Said):
        return "text"
    return "thinking" if isinstance(part, Thought) else "tool_use"


def _block(part: Part) -> Content:
    if isinstance(part, Said):
        return TextContent(type="text", text=part.text)
    if isinstance(part, Thought):
        return ThinkingContent(thinking=part.text)
    return ToolUseContent(id=part.id, name=part.name, input=json.loads(part.arguments))


def _empty(block: Content) -> dict[str, object]:
    """A block as it is begun: what it says comes in deltas."""
    blank = {"text": "", "thinking": "", "input": {}}
    return {name: blank.get(name, value) for name, value in block.model_dump().items()}


def _delta(part: Part) -> dict[str, object]:
    if isinstance(part, Said):
        return {"type": "text_delta", "text": part.text}
    if isinstance(part, Thought):
        return {"type": "thinking_delta", "thinking": part.text}
    return {"type": "input_json_delta", "partial_json": part.arguments}
