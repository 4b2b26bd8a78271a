"""Give every request an id, and write down how it went. Refuses nothing, and reads no body.

A line holds numbers and names of ours: never an address as it was sent, a text, a key or a key's name.
"""

from __future__ import annotations

import logging
import time

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cynosure.observe import logs
from cynosure.observe.metrics import ServingMetrics
from cynosure.server.admission import is_open
from cynosure.server.limits import Clock
from cynosure.server.visit import Visit, put_visit, request_id_of

REQUEST_ID = "X-Request-Id"
#: Anthropic's clients read this one.
OTHER_REQUEST_ID = "Request-Id"

#: What a log says where the client left before there was a status (nginx's number).
CLIENT_LEFT = 499

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
#: Asked every few seconds by machines: written for who debugs.
_QUIET = frozenset({"/ready", "/metrics"})

_log = logging.getLogger(__name__)


class Journal:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, metrics: ServingMetrics, clock: Clock = time.monotonic) -> None:
        """Stand before an application."""
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, and write it down when its answer has been sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(request_id_of(Headers(scope=scope).get(REQUEST_ID, "")), self._clock())
        put_visit(scope, visit)
        is_answered = False

        async def watched_receive() -> Message:
            message = await receive()
            # After a whole answer this says only that there is nothing more to come.
            if message["type"] == "http.disconnect" and not is_answered:
                visit.is_gone = True
            return message

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = headers[OTHER_REQUEST_ID] = visit.request_id
            elif not message.get("more_body", False):
                is_answered = True
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            self._write(scope, visit)

    def _write(self, scope: Scope, visit: Visit) -> None:
        status = CLIENT_LEFT if visit.status is None else visit.status
        self._metrics.responded(status)
        path = scope["path"]
        level = logging.DEBUG if is_open(path) or path in _QUIET else logging.INFO
        if not _log.isEnabledFor(level):
            return
        first_s = visit.first_token_s
        fields: dict[str, str | int | float | None] = {
            "request_id": visit.request_id,
            "method": scope["method"] if scope["method"] in _METHODS else None,
            "route": _route(scope),
            "status": status,
            "duration_s": round(self._clock() - visit.arrived_s, 4),
            "tenant": visit.tenant or None,
            "model": visit.model,
            "prompt_tokens": visit.num_prompt_tokens if visit.model else None,
            "cached_tokens": visit.num_cached if visit.model else None,
            "completion_tokens": visit.num_tokens if visit.model else None,
            "first_token_s": None if first_s is None else round(first_s - visit.arrived_s, 4),
            "finished_reason": visit.finish,
        }
        logs.write(_log, level, "request", fields)


def _route(scope: Scope) -> str | None:
    """The pattern that answered; the address itself may hold anything."""
    route = scope.get("route")
    return route.path if isinstance(route, APIRoute) else None
