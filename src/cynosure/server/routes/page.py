"""Serve the page and its files. Knows nothing of what the page asks for."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

import cynosure

WEB = Path(cynosure.__file__).parent / "web"

#: A browser asks whether its copy is current, so that a page and its scripts are of one version.
_HEADERS = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)
static = StaticFiles(directory=WEB)


@router.get("/")
async def page() -> FileResponse:
    """The one page."""
    return FileResponse(WEB / "index.html", headers=_HEADERS)
