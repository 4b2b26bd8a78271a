"""Serve `/v1/ask`: quotes with what was attended to. Knows nothing of how passages are found."""

from __future__ import annotations

import time

from fastapi import APIRouter, Depends

from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.ask import AskRequest, AskResponse

router = APIRouter(tags=["ask"], dependencies=[Depends(known_query())])


@router.post("/v1/ask")
async def ask(body: AskRequest, services: Ready) -> AskResponse:
    """Answer a question with passages quoted verbatim, or say that nothing fits."""
    store = services.store(body.store or next(iter(services.stores)))
    start = time.perf_counter()
    answer = await store.ask(body.question, body.max_results)
    response = AskResponse.of(answer, store.name)
    # With the time that it waited for its turn.
    response.timings_ms["total"] = round(1e3 * (time.perf_counter() - start), 1)
    return response
