"""Serve `/v1/requests/{id}/explain`, our own: how a request went. Knows nothing of how it is noted."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from cynosure.server.routes.access import known_query, visit_of, visits_of
from cynosure.server.schemas.requests import Explanation

router = APIRouter(prefix="/v1/requests", tags=["requests"], dependencies=[Depends(known_query())])


@router.get("/{request_id}/explain")
async def explain(request_id: str, request: Request) -> Explanation:
    """Say how a request of this API key went, by the id in its `X-Request-Id`; an admin may ask for any."""
    return Explanation.of(visits_of(request).find(visit_of(request), request_id))
