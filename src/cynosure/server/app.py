"""Assemble routes, errors and gate into one application. Knows no route's inside."""

from __future__ import annotations

from fastapi import FastAPI

import cynosure
from cynosure.observe.attention_metrics import AttentionMetrics
from cynosure.observe.audit_metrics import AuditMetrics
from cynosure.observe.load import EngineLoad
from cynosure.observe.metrics import ServingMetrics
from cynosure.observe.process_metrics import ProcessMetrics, ProcessState
from cynosure.server import errors, openapi
from cynosure.server.admission import Admission
from cynosure.server.answers.generated_ids import GeneratedIds
from cynosure.server.answers.response_store import ResponseStore
from cynosure.server.attended.attention_audits import AttentionAudits
from cynosure.server.attended.attention_desk import AttentionDesk
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.attended.sentinels import Sentinels
from cynosure.server.attended.trace_keeper import TraceKeeper, in_memory
from cynosure.server.gate import Gate
from cynosure.server.records.auditing import Auditing
from cynosure.server.records.journal import Journal
from cynosure.server.records.oversight import Oversight
from cynosure.server.records.visit_store import VisitStore
from cynosure.server.routes import (
    adapters,
    ask,
    chat,
    completions,
    decisions,
    drift,
    embeddings,
    files,
    health,
    messages,
    metrics,
    models,
    page,
    requests,
    rerank,
    responses,
    score,
    sources,
    store_files,
    tokenize,
    traces,
    vector_stores,
)
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings


def make_app(
    runtime: Runtime,
    settings: ServerSettings,
    admission: Admission | None = None,
    oversight: Oversight | None = None,
) -> FastAPI:
    """The application; `runtime` may still be loading. Without an admission nobody is asked for a key."""
    oversight = oversight or Oversight()
    # The documentation pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(title="Cynosure", version=cynosure.__version__, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    app.state.policy = oversight.policy
    app.state.visits = VisitStore()
    app.state.responses = ResponseStore()
    app.state.generated = GeneratedIds()
    app.state.metrics = ServingMetrics(lambda: _loads(runtime))
    app.state.metrics.watch(ProcessMetrics(lambda: _process(runtime)))
    board = oversight.drift or DriftBoard()
    attention = AttentionMetrics(board.numbers)
    app.state.metrics.watch(attention)
    auditor = oversight.auditor
    audits = auditor and AttentionAudits(lambda: runtime.services, auditor)
    app.state.audits = audits
    if audits is not None:
        app.state.metrics.watch(AuditMetrics(lambda: audits.state))
    app.state.traces = oversight.traces or TraceKeeper(in_memory(is_audited=oversight.audit is not None))
    app.state.desk = AttentionDesk(attention, board)
    app.state.sentinels = Sentinels(oversight.sentinels, board)
    scoring = (rerank, score, decisions)
    continuing = (completions, chat, responses, messages, tokenize)
    asking = (files, vector_stores, store_files, ask, sources, requests, drift, traces)
    for family in (page, health, metrics, models, adapters, embeddings, *scoring, *continuing, *asking):
        app.include_router(family.router)
    app.mount("/static", page.static)
    errors.install(app)
    admission = app.state.admission = admission or Admission()
    openapi.install(app, lambda: admission.ring.is_open)
    # The last one added is the outermost.
    app.add_middleware(Gate, settings=settings, admission=admission)
    if oversight.audit is not None:
        app.add_middleware(Auditing, writer=oversight.audit)
    app.add_middleware(Journal, metrics=app.state.metrics, spans=oversight.spans)
    return app


def _loads(runtime: Runtime) -> dict[str, EngineLoad]:
    services = runtime.services
    if services is None:
        return {}
    # An adapter runs in its model's engine, whose load is told once.
    adapters = () if services.adapters is None else services.adapters.parents
    return {name: model.load for name, model in services.completers.items() if name not in adapters}


def _process(runtime: Runtime) -> ProcessState | None:
    engine = runtime.engine
    return None if engine is None else ProcessState(engine.is_up, engine.num_restarts)
