"""Make a span of a request that has ended. Knows nothing of OpenTelemetry."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import Scope

from cynosure.engine.report import RequestReport
from cynosure.observe.spans import PROVIDER, Phase, RequestSpan, Value
from cynosure.server.visit import CLIENT_LEFT, Visit, method_of, route_of

#: What the conventions call what a route does; others are plain HTTP.
OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_PROPAGATED = ("traceparent", "tracestate")


def span_of(scope: Scope, visit: Visit, ended_s: float) -> RequestSpan:
    """The span; `ended_s` is on the visit's clock, of which now is the wall's now."""
    to_wall = time.time() - ended_s
    route, method = route_of(scope), method_of(scope)
    operation = OPERATIONS.get(route)
    name = f"{operation} {visit.model}" if operation and visit.model else f"{method} {route}".strip()
    headers = Headers(scope=scope)
    status = CLIENT_LEFT if visit.status is None else visit.status
    is_failed = status >= 500 or visit.finish == "error"
    fields = _fields(visit) | {
        "operation": operation,
        "provider": PROVIDER if operation else None,
        "method": method or None,
        "route": route or None,
        "status": status,
        "error": visit.error or (str(status) if is_failed else None),
    }
    return RequestSpan(
        name=name,
        start_s=visit.arrived_s + to_wall,
        end_s=ended_s + to_wall,
        fields=fields,
        phases=[phase for report in visit.reports for phase in _phases(report, visit.arrived_s + to_wall)],
        is_failed=is_failed,
        headers={header: headers[header] for header in _PROPAGATED if header in headers},
    )


def _fields(visit: Visit) -> dict[str, Value]:
    sampling, first_s = visit.sampling, visit.first_token_s
    fields: dict[str, Value] = {"request_id": visit.request_id, "guard": visit.guard.told() or None}
    if visit.model is not None:
        fields |= {
            "request_model": visit.model,
            "response_model": visit.model,
            "input_tokens": visit.num_prompt_tokens,
        }
    if sampling is None:
        return fields
    return fields | {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "num_choices": len(visit.reports) if len(visit.reports) > 1 else None,
        "finish_reasons": [visit.finish] if visit.finish else None,
        "time_to_first_chunk": None if first_s is None else first_s - visit.arrived_s,
        "output_tokens": visit.num_tokens,
        "cached_tokens": visit.num_cached,
        "num_preemptions": sum(report.num_preemptions for report in visit.reports),
        "pages_found": sum(report.num_pages_found for report in visit.reports),
        "pages_sought": sum(report.num_pages_sought for report in visit.reports),
    }


def _phases(report: RequestReport, at_s: float) -> list[Phase]:
    """What the engine told, one after the other from the arrival on: it has no clock of ours."""
    phases = []
    for name, seconds in (
        ("constraint", report.constraint_s),
        ("queue", report.queue_s),
        ("prefill", report.prefill_s),
        ("decode", report.decode_s),
    ):
        if seconds > 0:
            phases.append(Phase(f"cynosure.{name}", at_s, at_s + seconds))
        at_s += seconds
    return phases
