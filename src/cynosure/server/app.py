"""Assemble routes, errors and gate into one application. Knows no route's inside."""

from __future__ import annotations

from fastapi import FastAPI

import cynosure
from cynosure.server import errors
from cynosure.server.gate import Gate
from cynosure.server.routes import ask, completions, embeddings, health, models, page, vector_stores
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings


def make_app(runtime: Runtime, settings: ServerSettings) -> FastAPI:
    """The application; `runtime` may still be loading."""
    # The documentation pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(title="Cynosure", version=cynosure.__version__, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    for family in (page, health, models, embeddings, vector_stores, completions, ask):
        app.include_router(family.router)
    app.mount("/static", page.static)
    errors.install(app)
    app.add_middleware(Gate, settings=settings)
    return app
