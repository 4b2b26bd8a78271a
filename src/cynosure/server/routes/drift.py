"""Serve `/v1/drift`, for the operator: has what is attended to shifted. Computes nothing."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Depends, Request

from cynosure.server.attended.drift_view import board_view, reference_view
from cynosure.server.routes.access import (
    Ready,
    admin_only,
    desk_of,
    known_query,
    operators_services,
    sentinels_of,
)
from cynosure.server.schemas.drift import DriftBoard, DriftReference, FreezeReference

router = APIRouter(tags=["drift"], dependencies=[Depends(admin_only), Depends(known_query())])


@router.get("/v1/drift")
async def drift(request: Request) -> DriftBoard:
    """Compare the last watched answers of each model with its frozen reference; for an admin's key."""
    desk = desk_of(request)
    return await asyncio.to_thread(board_view, desk.board, desk.num_dropped)


@router.post("/v1/drift/reference")
async def freeze(body: FreezeReference, request: Request, services: Ready) -> DriftReference:
    """Make a model's last watched answers what later ones are compared with; for an admin's key."""
    board = desk_of(request).board
    # Sentinels are nobody's request.
    own = operators_services(request)
    sentinels = await sentinels_of(request).frozen(services if own is None else own, body.model)
    reference = await asyncio.to_thread(board.freeze, body.model, time.time(), sentinels)
    return reference_view(reference, is_kept=board.is_kept)
