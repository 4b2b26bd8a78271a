"""Assemble routes, errors and gate into one application. Knows no route's inside."""

from __future__ import annotations

from fastapi import FastAPI

import cynosure
from cynosure.observe.load import EngineLoad
from cynosure.observe.metrics import ServingMetrics
from cynosure.server import errors
from cynosure.server.admission import Admission
from cynosure.server.gate import Gate
from cynosure.server.journal import Journal
from cynosure.server.routes import (
    ask,
    chat,
    completions,
    embeddings,
    health,
    messages,
    metrics,
    models,
    page,
    tokenize,
    vector_stores,
)
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings


def make_app(runtime: Runtime, settings: ServerSettings, admission: Admission | None = None) -> FastAPI:
    """The application; `runtime` may still be loading. Without an admission nobody is asked for a key."""
    # The documentation pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(title="Cynosure", version=cynosure.__version__, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    app.state.metrics = ServingMetrics(lambda: _loads(runtime))
    continuing = (completions, chat, messages, tokenize)
    for family in (page, health, metrics, models, embeddings, vector_stores, *continuing, ask):
        app.include_router(family.router)
    app.mount("/static", page.static)
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(Gate, settings=settings, admission=admission or Admission())
    app.add_middleware(Journal, metrics=app.state.metrics)
    return app


def _loads(runtime: Runtime) -> dict[str, EngineLoad]:
    services = runtime.services
    return {} if services is None else {name: model.load for name, model in services.completers.items()}
