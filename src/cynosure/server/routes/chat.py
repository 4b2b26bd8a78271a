"""Serve `/v1/chat/completions`. Knows nothing of templates, nor of how a token is chosen."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.server.answers.attention import AttentionPlan
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.chat_completion import ChatAnswer
from cynosure.server.answers.chat_turn import begin_turns, build_prompt, chat_of, room_after
from cynosure.server.answers.reasoning_switch import reasoning_variables
from cynosure.server.presence import while_present
from cynosure.server.routes.access import Ready, known_query, note_end_user, visit_of
from cynosure.server.schemas.chat import ChatCompletion, ChatRequest
from cynosure.server.stream import event_stream

router = APIRouter(tags=["chat"], dependencies=[Depends(known_query())])


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def create_chat_completion(
    body: ChatRequest, request: Request, services: Ready
) -> ChatCompletion | Response:
    """Answer a conversation, whole or as a stream; a client that leaves ends it."""
    note_end_user(request, body.end_user)
    model = services.completer(body.model)
    offer = body.offer
    variables = dict[str, object](body.chat_template_kwargs or {})
    variables |= reasoning_variables(model.name, chat_of(model), body.reasoning_effort)
    # What is reproducible depends on nothing that was asked before.
    from_text = body.is_reproducible
    prompt = await build_prompt(model, body.turns, offer.tools, variables, from_text=from_text)
    notes = visit_of(request).guard if offer.callable_names else None
    attention = AttentionPlan(model, body.attention, lambda: chat_segments(prompt, body.segment_names), notes)
    asked = attention.applied(body.asked(prompt.token_ids, body.sampling(room_after(model, prompt))))
    stops = [body.stop_text for _ in range(body.n or 1)]
    turns = await begin_turns(model, prompt, offer, stops, asked, attention.gate)
    answer = ChatAnswer(model, body, prompt.token_ids, turns, attention)
    if not body.stream:
        return await while_present(request, answer.whole())
    # What fails before the first token has a status of its own.
    await while_present(request, answer.begin())
    return event_stream(answer.events())
