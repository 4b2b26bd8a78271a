"""Give every request an id, and write down how it went. Refuses nothing, and reads no body.

A line holds numbers and names of ours: never an address as it was sent, a text, a key or a key's name.
"""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cynosure.observe import logs
from cynosure.observe.metrics import ServingMetrics
from cynosure.observe.spans import SpanWriter
from cynosure.server.access.limits import Clock
from cynosure.server.admission import is_open
from cynosure.server.records.tracing import span_of
from cynosure.server.visit import CLIENT_LEFT, Visit, method_of, put_visit, request_id_of, route_of

REQUEST_ID = "X-Request-Id"
#: Anthropic's clients read this one.
OTHER_REQUEST_ID = "Request-Id"
#: What the guard found until the answer began; a whole answer has all of it.
GUARD = "X-Guard"

#: Asked every few seconds by machines: written for who debugs.
_QUIET = frozenset({"/ready", "/metrics"})

_log = logging.getLogger(__name__)


class Journal:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: ServingMetrics,
        spans: SpanWriter | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Stand before an application; where there are `spans`, each request is one."""
        self._app = app
        self._metrics = metrics
        self._spans = spans
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
                if visit.guard.told():
                    headers[GUARD] = visit.guard.told()
            elif not message.get("more_body", False):
                is_answered = True
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            self._write(scope, visit)

    def _write(self, scope: Scope, visit: Visit) -> None:
        status = CLIENT_LEFT if visit.status is None else visit.status
        visit.ended_s = self._clock()
        self._metrics.responded(status)
        for (direction, kind, action), count in visit.guard.counts.items():
            self._metrics.found(direction, kind, action, count)
        path = scope["path"]
        if self._spans is not None and not is_open(path) and path not in _QUIET:
            self._spans.write(span_of(scope, visit, visit.ended_s))
        level = logging.DEBUG if is_open(path) or path in _QUIET else logging.INFO
        if not _log.isEnabledFor(level):
            return
        first_s = visit.first_token_s
        fields: dict[str, str | int | float | None] = {
            "request_id": visit.request_id,
            "method": method_of(scope) or None,
            "route": route_of(scope) or None,
            "status": status,
            "duration_s": round(visit.ended_s - visit.arrived_s, 4),
            "tenant": visit.tenant or None,
            "end_user": visit.end_user or None,
            "model": visit.model,
            "prompt_tokens": visit.num_prompt_tokens if visit.model else None,
            "cached_tokens": visit.num_cached if visit.model else None,
            "completion_tokens": visit.num_tokens if visit.model else None,
            "first_token_s": None if first_s is None else round(first_s - visit.arrived_s, 4),
            "finished_reason": visit.finish,
            "guard": visit.guard.told() or None,
            "error": visit.error or None,
        }
        logs.write(_log, level, "request", fields)
