"""Answer whether the server lives, and whether it can work. Computes nothing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from cynosure.server.errors import RETRY_AFTER_S, body_of
from cynosure.server.routes.access import runtime_of

router = APIRouter(tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """Say that the process answers, from the first moment on."""
    return {"status": "live"}


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Say whether questions are answered; until then 503, with the stage and how much of it is done."""
    runtime = runtime_of(request)
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    engine = runtime.engine
    if engine is not None and not engine.is_up:
        return JSONResponse({"status": "restarting", "stage": engine.stage}, 503, retry)
    if runtime.services is not None:
        return JSONResponse({"status": "ready"})
    if runtime.failure is not None:
        return JSONResponse({"status": "failed", **body_of(runtime.failure)[1]}, 503, retry)
    progress = runtime.progress
    body = {"status": "loading", "stage": progress.stage, "done": progress.done, "total": progress.total}
    return JSONResponse(body, 503, retry)
