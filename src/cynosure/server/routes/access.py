"""Hand the loaded services to routes, and refuse what no route reads. Knows no API family."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from cynosure.core.errors import UnknownOption
from cynosure.observe.metrics import ServingMetrics
from cynosure.server.admission import Admission, check_admin
from cynosure.server.answers.generated_ids import GeneratedIds
from cynosure.server.answers.keeping import keeping
from cynosure.server.attended.attending import attending
from cynosure.server.attended.attention_audits import AttentionAudits
from cynosure.server.attended.attention_desk import AttentionDesk, TimedSinks
from cynosure.server.attended.sentinels import Sentinels
from cynosure.server.attended.trace_keeper import TraceKeeper
from cynosure.server.errors import RETRY_AFTER_S
from cynosure.server.guarded.guarding import guarded
from cynosure.server.records.metering import metered
from cynosure.server.records.visit_store import VisitStore
from cynosure.server.runtime import Progress, Runtime
from cynosure.server.services import Services
from cynosure.server.uploads import TenantUploads
from cynosure.server.visit import Visit, route_of, visit_in


def runtime_of(request: Request) -> Runtime:
    """The runtime that the application was made with."""
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def operators_services(request: Request) -> Services | None:
    """The services as the server has them, bound to nobody: for what it asks on its own account."""
    return runtime_of(request).services


def visit_of(request: Request) -> Visit:
    """Who asks, and what it has cost so far."""
    return visit_in(request.scope)


def visits_of(request: Request) -> VisitStore:
    """The requests that can be explained."""
    visits = request.app.state.visits
    assert isinstance(visits, VisitStore)
    return visits


def desk_of(request: Request) -> AttentionDesk:
    """Where what answers attended to is counted and compared."""
    desk = request.app.state.desk
    assert isinstance(desk, AttentionDesk)
    return desk


def sentinels_of(request: Request) -> Sentinels:
    """What asks frozen prompts again."""
    sentinels = request.app.state.sentinels
    assert isinstance(sentinels, Sentinels)
    return sentinels


def traces_of(request: Request) -> TraceKeeper:
    """What is kept of what answers attended to."""
    traces = request.app.state.traces
    assert isinstance(traces, TraceKeeper)
    return traces


def note_end_user(request: Request, name: str) -> None:
    """Note for whom a request asks, in its records alone."""
    admission = request.app.state.admission
    assert isinstance(admission, Admission)
    admission.name_end_user(visit_of(request), name)


async def admin_only(request: Request) -> None:
    """A dependency that refuses every key but an admin's; an open server has no keys and refuses nobody."""
    check_admin(visit_of(request))


def said(progress: Progress) -> str:
    """Progress in words."""
    return f"{progress.stage}, {progress.done} of {progress.total}" if progress.total else progress.stage


async def _ready(request: Request) -> Services:
    runtime = runtime_of(request)
    services = runtime.services
    if services is None:
        text = f"still loading: {said(runtime.progress)}. Retry when /ready says so."
        raise HTTPException(503, text, {"Retry-After": str(RETRY_AFTER_S)})
    visit = visit_of(request)
    visits_of(request).add(visit)
    assert visit.tenant is not None, "nobody was admitted"
    sentinels_of(request).passed(services)
    generated = request.app.state.generated
    assert isinstance(generated, GeneratedIds)
    if services.library is not None:
        services = replace(services, uploads=TenantUploads(services.library, visit.tenant))
    kept = keeping(metered(services, visit, await _meters(request)), visit.tenant, generated)
    policy = request.app.state.policy
    # The guard stands before who keeps tokens: what it changes is not what was generated.
    safe = kept if policy is None else guarded(kept, visit, policy)
    desk, audits = desk_of(request), request.app.state.audits
    assert isinstance(audits, AttentionAudits | None)
    audited = () if audits is None else (audits,)
    sinks = TimedSinks((desk, traces_of(request), *audited, *safe.report_sinks), desk.metrics)
    # What is put down of answers is what leaves.
    return attending(replace(safe, report_sinks=(sinks,)), visit, route_of(request.scope), audits)


async def _meters(request: Request) -> ServingMetrics:
    meters = request.app.state.metrics
    assert isinstance(meters, ServingMetrics)
    return meters


Ready = Annotated[Services, Depends(_ready)]
Meters = Annotated[ServingMetrics, Depends(_meters)]


def known_query(*names: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses every parameter in the address but these."""

    async def refuse(request: Request) -> None:
        for name in request.query_params:
            if name not in names:
                known = ", ".join(names) or "none"
                raise UnknownOption(
                    f"query parameter {name[:100]!r} is not known here, and nothing is ignored; known: "
                    f"{known}. Leave it out."
                )

    return refuse
