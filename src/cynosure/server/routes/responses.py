"""Serve `/v1/responses`. Knows nothing of templates, nor of how a token is chosen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.models.chat.prompt import Message
from cynosure.server.answers.attention import AttentionPlan
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.chat_turn import begin_turn, build_prompt, chat_of, room_after
from cynosure.server.answers.file_search import FileSearch
from cynosure.server.answers.grounding import GroundingTeller
from cynosure.server.answers.reasoning_switch import reasoning_variables
from cynosure.server.answers.response_events import ResponseWriter, Told
from cynosure.server.answers.response_store import ResponseStore
from cynosure.server.answers.token_words import chat_row
from cynosure.server.presence import while_present
from cynosure.server.routes.access import Ready, known_query, note_end_user, visit_of
from cynosure.server.schemas.file_search import NamedFileSearch
from cynosure.server.schemas.responses import (
    DeletedResponse,
    NamedFunctionTool,
    ReasoningSettings,
    ResponseBody,
    ResponsesRequest,
)
from cynosure.server.services import Services
from cynosure.server.stream import named_event_stream

router = APIRouter(prefix="/v1/responses", tags=["responses"], dependencies=[Depends(known_query())])


async def _store(request: Request) -> ResponseStore:
    store = request.app.state.responses
    assert isinstance(store, ResponseStore)
    return store


async def _tenant(request: Request) -> str:
    tenant = visit_of(request).tenant
    assert tenant is not None, "nobody was admitted"
    return tenant


Responses = Annotated[ResponseStore, Depends(_store)]
Tenant = Annotated[str, Depends(_tenant)]


@router.post("", response_model=ResponseBody)
async def create_response(
    body: ResponsesRequest, request: Request, services: Ready, responses: Responses, tenant: Tenant
) -> ResponseBody | Response:
    """Answer what was sent and what it goes on from, whole or as a stream; a client that leaves ends it."""
    note_end_user(request, body.end_user)
    model = services.completer(body.model)
    offer = body.offer
    before = responses.turns_until(tenant, body.previous_response_id)
    variables = reasoning_variables(model.name, chat_of(model), body.effort)
    turns = body.instruction_turns + before + body.turns
    search = await _search(body, request, services, turns)
    turns, passages = (turns, []) if search is None else (search.before_question(turns), search.passages)
    prompt = await build_prompt(model, turns, offer.tools, variables, from_text=body.is_reproducible)
    names = {} if search is None else search.names
    notes = visit_of(request).guard if offer.callable_names else None
    attention = AttentionPlan(model, body.attention, lambda: chat_segments(prompt, names), notes)
    sampling = body.sampling(room_after(model, prompt), passages)
    turn = await begin_turn(
        model, prompt, offer, [], attention.applied(body.asked(prompt.token_ids, sampling)), attention.gate
    )
    is_kept, quoted = body.store is not False, body.quoted(passages)
    told = Told(
        row_of=partial(chat_row, model.tokenizer) if body.tells_logprobs else None,
        teller=attention.teller(),
        quotes=None if quoted is None else GroundingTeller(quoted),
        search=search,
        citer=attention.teller() if search is not None and body.cites else None,
    )
    keep = partial(responses.put, tenant, items=body.items) if is_kept else None
    writer = ResponseWriter(_begun(body, is_kept), turn, keep, told)
    if not body.stream:
        return await while_present(request, writer.whole())
    # What fails before the first token has a status of its own.
    await while_present(request, turn.begin())
    return named_event_stream(writer.events(), writer.failed)


@router.get("/{response_id}")
async def retrieve_response(response_id: str, responses: Responses, tenant: Tenant) -> ResponseBody:
    """Give an answer again."""
    return responses.get(tenant, response_id).body


@router.delete("/{response_id}")
async def delete_response(response_id: str, responses: Responses, tenant: Tenant) -> DeletedResponse:
    """Forget an answer."""
    responses.delete(tenant, response_id)
    return DeletedResponse(id=response_id)


async def _search(
    body: ResponsesRequest, request: Request, services: Services, turns: Sequence[Message]
) -> FileSearch | None:
    """Search files where that is asked for; nothing of the model's is computed before."""
    tool = body.search
    if tool is None:
        return None
    made = FileSearch.made(services, tool, turns, tells_results=body.tells_results)
    return await while_present(request, made)


def _chosen(
    choice: Literal["auto", "none", "required"] | NamedFunctionTool | NamedFileSearch | None,
) -> Literal["auto", "none", "required"] | dict[str, str]:
    return (
        choice.model_dump() if isinstance(choice, NamedFunctionTool | NamedFileSearch) else choice or "auto"
    )


def _begun(body: ResponsesRequest, is_kept: bool) -> ResponseBody:
    """An answer before its first token, with what was asked."""
    form = None if body.text is None else body.text.format
    return ResponseBody(
        id=f"resp_{uuid.uuid4().hex}",
        created_at=int(time.time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=body.model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        reasoning=ReasoningSettings(effort=body.effort),
        store=is_kept,
        temperature=1.0 if body.temperature is None else body.temperature,
        text={"format": {"type": "text"} if form is None else form.model_dump(by_alias=True)},
        tool_choice=_chosen(body.tool_choice),
        tools=[tool.model_dump() for tool in body.tools or []],
        top_logprobs=body.top_logprobs or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
    )
