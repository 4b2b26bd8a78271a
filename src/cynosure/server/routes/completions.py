"""Serve `/v1/completions`. Knows nothing of how a token is chosen."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from cynosure.server.answers.completion_answer import begin_answer
from cynosure.server.presence import while_present
from cynosure.server.routes.access import Ready, known_query, note_end_user
from cynosure.server.schemas.completions import Completion, CompletionRequest
from cynosure.server.stream import event_stream

router = APIRouter(tags=["completions"], dependencies=[Depends(known_query())])


@router.post("/v1/completions", response_model=Completion)
async def create_completion(
    body: CompletionRequest, request: Request, services: Ready
) -> Completion | Response:
    """Continue prompts, whole or as a stream; a client that leaves ends it."""
    note_end_user(request, body.end_user)
    answer = await begin_answer(services.completer(body.model), body)
    if not body.stream:
        return await while_present(request, answer.whole())
    # What fails before the first token has a status of its own.
    await while_present(request, answer.begin())
    return event_stream(answer.events())
