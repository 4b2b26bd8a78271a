"""Map every failure to a status code and the one error shape. Knows nothing of routes.

The shape is OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from cynosure.core import errors
from cynosure.server.presence import ClientGone
from cynosure.server.protocols import translated
from cynosure.server.schemas.wire import UnknownField
from cynosure.server.visit import visit_in

INVALID, ABSENT, FAULT, BUSY = "invalid_request_error", "not_found_error", "server_error", "unavailable_error"
DENIED, LIMITED = "permission_error", "rate_limit_error"
RETRY_AFTER_S = 2

Handler = Callable[[Request, Exception], Awaitable[JSONResponse]]

_log = logging.getLogger(__name__)

#: The nearest class of the tree decides.
STATUS: Mapping[type[BaseException], tuple[int, str]] = {
    errors.CynosureError: (500, FAULT),
    errors.InputError: (400, INVALID),
    errors.NotFound: (404, ABSENT),
    errors.AccessDenied: (403, DENIED),
    errors.InvalidApiKey: (401, INVALID),
    errors.RateLimitExceeded: (429, LIMITED),
    errors.TemplateError: (400, INVALID),
    errors.DeadlineUnmet: (503, BUSY),
    errors.EngineBusy: (503, BUSY),
    errors.EngineDown: (503, BUSY),
    errors.IndexFault: (503, BUSY),
    errors.AuditFault: (503, BUSY),
    errors.EnvironmentFault: (503, BUSY),
}
_KINDS = {400: INVALID, 404: ABSENT, 405: INVALID, 503: BUSY}
_CODES = {404: "no_such_address", 405: "no_such_method", 503: "loading"}


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, object]:
    """The one shape of a failure."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(
    status: int, message: str, code: str, param: str | None = None, retry: bool = False
) -> JSONResponse:
    """An error as a response; `retry` says when to come back."""
    kind = _KINDS.get(status, FAULT if status >= 500 else INVALID)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if retry else None
    return JSONResponse(error_body(message, kind, code, param), status, headers)


def code_of(failure: BaseException) -> str:
    """`InputTooLong` is `input_too_long`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(failure).__name__).lower()


def body_of(failure: BaseException) -> tuple[int, dict[str, object]]:
    """Status and body of any failure; one that is not of our tree is logged, and its text kept back."""
    for cls in type(failure).__mro__:
        if cls in STATUS:
            status, kind = STATUS[cls]
            place = failure.place if isinstance(failure, errors.ContentPolicyViolation) else None
            return status, error_body(str(failure), kind, code_of(failure), place)
    _log.error("a request failed", exc_info=failure)
    return 500, error_body("the server failed; its log says how. Report it.", FAULT, "internal_error")


def install(app: FastAPI) -> None:
    """Have the application answer our own failures in the one shape; the gate answers the others."""
    app.add_exception_handler(errors.CynosureError, _spoken(_on_failure))
    app.add_exception_handler(RequestValidationError, _spoken(_on_invalid))
    app.add_exception_handler(HTTPException, _spoken(_on_http))
    app.add_exception_handler(ClientGone, _on_gone)


def _spoken(handler: Handler) -> Handler:
    """The handler, its answer in the shape that the clients of the address parse."""

    async def handle(request: Request, failure: Exception) -> JSONResponse:
        if isinstance(failure, errors.CynosureError):
            visit_in(request.scope).error = type(failure).__name__
        response = await handler(request, failure)
        return translated(response, request.url.path, visit_in(request.scope).request_id)

    return handle


def headers_of(failure: BaseException, status: int) -> dict[str, str]:
    """What a failure says in headers: when to come back, or how to say who asks."""
    if isinstance(failure, errors.RateLimitExceeded | errors.DeadlineUnmet | errors.EngineDown):
        return {"Retry-After": str(max(1, math.ceil(failure.retry_after_s)))}
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}


async def _on_failure(_: Request, failure: Exception) -> JSONResponse:
    status, body = body_of(failure)
    return JSONResponse(body, status, headers_of(failure, status))


async def _on_gone(_: Request, __: Exception) -> Response:
    # Nobody reads it; the log and the metrics do. The number is nginx's.
    return Response(status_code=499)


async def _on_http(request: Request, failure: Exception) -> JSONResponse:
    assert isinstance(failure, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    headers = dict(failure.headers or {})
    if failure.status_code == 405:
        headers["Allow"] = _methods_at(request, headers.get("Allow", ""))
    text = {
        404: f"nothing answers {where}; docs/api.md lists what does.",
        405: f"{where} is not taken; use {headers.get('Allow')}.",
    }.get(failure.status_code, str(failure.detail))
    code = _CODES.get(failure.status_code, "http_error")
    response = refusal(failure.status_code, text, code)
    response.headers.update(headers)
    return response


def _methods_at(request: Request, allowed: str) -> str:
    """What an address takes: each of its methods is a route of its own, and the first one named its own."""
    methods = {method for method in allowed.split(", ") if method}
    for pattern, operations in request.app.openapi()["paths"].items():
        if compile_path(pattern)[0].match(request.url.path):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))


async def _on_invalid(_: Request, failure: Exception) -> JSONResponse:
    assert isinstance(failure, RequestValidationError)
    message, param = explain_invalid(failure.errors())
    return refusal(400, message, "invalid_request", param)


def explain_invalid(faults: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """Say in one sentence what is wrong with a request, and name the field.

    A field that may have several types reports a fault for each; they are told together.
    """
    first = faults[0]
    place = [str(part) for part in first["loc"][1:]]  # the first says: body, query or path
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']}. Send one JSON object.", None
    if first["type"] == "value_error" and isinstance(first["ctx"]["error"], UnknownField):
        return str(first["ctx"]["error"]), first["ctx"]["error"].field
    if first["type"] == "value_error":
        return f"the request is not usable: {_said(first)}. Correct it.", place[0] if place else None
    if not place:
        return "the body is not a JSON object. Send one, with content type application/json.", None
    field = place[0]
    if first["type"] == "missing":
        return f"field {'.'.join(place)!r} is missing. Add it.", field
    said = dict.fromkeys(_said(fault) for fault in faults if field in map(str, fault["loc"]))
    return (
        f"field {field!r} is not usable: {'; or '.join(said)}. Got {_shown(first['input'])}. Change it.",
        field,
    )


def _said(fault: Mapping[str, Any]) -> str:
    text = str(fault["msg"])
    return (text[:1].lower() + text[1:]).removeprefix("value error, ")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
