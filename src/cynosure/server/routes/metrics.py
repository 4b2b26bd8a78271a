"""Serve `/metrics`, for the operator. Knows nothing of what is counted."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from cynosure.observe.metrics import CONTENT_TYPE
from cynosure.server.routes.access import Meters, admin_only, known_query

router = APIRouter(tags=["health"], dependencies=[Depends(admin_only), Depends(known_query())])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(meters: Meters) -> Response:
    """Write all metrics in Prometheus' text format; where there are keys, for an admin's only."""
    return Response(meters.written(), media_type=CONTENT_TYPE)
