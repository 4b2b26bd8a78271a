"""Serve `/v1/traces`, our own: what answers attended to. Knows nothing of where it is kept.

Whoever asks finds his own; an admin also finds others', without places, ids and texts. What is not his is for
everybody else the same as what never was.
"""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import EnvironmentFault, NotFound
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.admission import check_admin
from cynosure.server.attended.trace_query import TraceQuery
from cynosure.server.routes.access import known_query, traces_of, visit_of
from cynosure.server.schemas.traces import Trace, TraceList, TraceRow, TracesDeleted

router = APIRouter(prefix="/v1/traces", tags=["traces"])

MAX_LISTED = 1000
#: Before the year 10,000.
MAX_TIME_S = 253_402_300_799.0

_Time = Annotated[float | None, Query(ge=0, le=MAX_TIME_S)]


@router.get("", dependencies=[Depends(known_query("limit", "model", "since", "before"))])
async def list_traces(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    model: Annotated[str | None, Query(max_length=256)] = None,
    since: _Time = None,
    before: _Time = None,
) -> TraceList:
    """List the newest answers that are kept, of this API key or, for an admin, of all."""
    tenant, is_admin = _asker(request)
    query = TraceQuery(
        # One more tells whether there are more.
        limit + 1,
        None if is_admin else tenant,
        model,
        -math.inf if since is None else since,
        math.inf if before is None else before,
    )
    found = await run_in_threadpool(traces_of(request).newest, query)
    rows = [TraceRow.of(one, tenant) for one in found[:limit]]
    return TraceList(data=rows, has_more=len(found) > limit)


@router.get("/{request_id}", dependencies=[Depends(known_query())], response_model=Trace)
async def retrieve_trace(request_id: str, request: Request) -> Response:
    """Tell what the answers of a request attended to, by the id in its `X-Request-Id`."""
    tenant, is_admin = _asker(request)
    keeper = traces_of(request)
    found = await run_in_threadpool(keeper.find, request_id, tenant, is_admin=is_admin)
    if not found:
        raise NotFound(_unknown(request_id))
    if any(trace.summary.level is TraceLevel.L3 for trace in found):
        # The audit's record is on the disk before the answer leaves.
        visit_of(request).read = f"trace L3 {found[0].summary.request_id}"
    body = await run_in_threadpool(lambda: Trace.of(found, tenant).model_dump_json())
    return Response(body, media_type="application/json")


@router.delete("/{request_id}", dependencies=[Depends(known_query())])
async def delete_trace(request_id: str, request: Request) -> TracesDeleted:
    """Keep nothing any more of a request of this API key, or of anybody where an admin asks."""
    tenant, is_admin = _asker(request)
    count = await _erase(request, tenant, request_id)
    if not count and is_admin:
        count = await _erase(request, None, request_id)
    if not count:
        raise NotFound(_unknown(request_id))
    return TracesDeleted(num_answers=count)


@router.delete("", dependencies=[Depends(known_query("tenant"))])
async def delete_traces(
    request: Request, tenant: Annotated[str | None, Query(max_length=64)] = None
) -> TracesDeleted:
    """Keep nothing any more of all requests of this API key; an admin may name another's `tenant`."""
    own, _ = _asker(request)
    if tenant is not None and tenant != own:
        check_admin(visit_of(request))
    return TracesDeleted(num_answers=await _erase(request, own if tenant is None else tenant))


async def _erase(request: Request, tenant: str | None, request_id: str | None = None) -> int:
    try:
        return await run_in_threadpool(traces_of(request).erase, tenant, request_id)
    except OSError as fault:
        raise EnvironmentFault(
            f"traces can't be erased from their files now ({fault.strerror}). Tell the operator, and retry."
        ) from fault


def _asker(request: Request) -> tuple[str, bool]:
    visit = visit_of(request)
    assert visit.tenant is not None, "nobody was admitted"
    return visit.tenant, visit.is_admin


def _unknown(request_id: str) -> str:
    return (
        f"no trace of a request {request_id[:128]!r} of yours is kept. Take the id from the X-Request-Id of "
        'an answer that was watched: one that asks for "attention", or any of a server started with --traces.'
    )
