"""Have every request leave its audit record, and no answer leave before it. Reads no body.

A whole answer is held until its record is durable. Before a stream begins, a record says that it does; the
record of the request is written before its last piece is sent. Where the log can't be written the answer is
503: nothing is served that is not audited.
"""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cynosure.core.errors import AuditFault
from cynosure.guard import AuditBegun, AuditRecord
from cynosure.server.access.limits import Clock
from cynosure.server.admission import is_open
from cynosure.server.errors import refusal
from cynosure.server.outcome import outcome_of
from cynosure.server.protocols import translated
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.visit import CLIENT_LEFT, Visit, method_of, route_of, visit_in

#: Asked every few seconds by machines, and telling nothing of anybody.
UNAUDITED = frozenset({"/ready", "/metrics"})
#: Answers that have no body, and declare no length of it.
_EMPTY = frozenset({204, 304})

_log = logging.getLogger(__name__)


class Auditing:
    """A layer outside of all that answers, and inside of the journal."""

    def __init__(self, app: ASGIApp, writer: AuditWriter, clock: Clock = time.monotonic) -> None:
        """Stand before an application."""
        self._app = app
        self._writer = writer
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass and write its record, or refuse it."""
        if scope["type"] != "http" or is_open(scope["path"]) or scope["path"] in UNAUDITED:
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, self._writer, self._clock)
        if self._writer.is_broken:
            # Its refusal is written too; once that succeeds, the next one is served.
            await answer.refuse()
            return
        try:
            await self._app(scope, receive, answer.send)
        except Exception as failure:
            answer.visit.error = answer.visit.error or type(failure).__name__
            answer.status = answer.status or 500
            raise
        finally:
            await answer.settle()


class _Answer:
    """One answer on its way out."""

    def __init__(self, scope: Scope, send: Send, writer: AuditWriter, clock: Clock) -> None:
        self.visit: Visit = visit_in(scope)
        self.status = 0
        self._scope = scope
        self._send = send
        self._writer = writer
        self._clock = clock
        self._held: list[Message] = []
        self._is_stream = False
        self._is_refused = False
        self._is_written = False

    async def send(self, message: Message) -> None:
        """Send on what may be sent, hold what may not yet."""
        if self._is_refused:
            return
        try:
            await self._forward(message)
        except AuditFault as fault:
            _log.error("an answer was not sent, since it could not be audited", exc_info=fault)
            if self._is_stream and not self._held:
                # Its beginning has been sent: without its end, a client takes it for broken, and rightly.
                raise
            await self.refuse()

    async def refuse(self) -> None:
        """Answer that nothing is served now; the refusal is written if that is possible again."""
        self._held, self._is_refused, self.status = [], True, 503
        text = (
            "the audit log can't be written, and nothing is served unaudited. Tell the operator, and retry."
        )
        response = translated(
            refusal(503, text, "audit_fault", retry=True), self._scope["path"], self.visit.request_id
        )
        self.visit.error = AuditFault.__name__
        await self.settle()
        await response(self._scope, _nothing, self._send)

    async def settle(self) -> None:
        """Write the record unless it is written; a failure is the next request's to tell."""
        try:
            await self._write()
        except AuditFault as fault:
            _log.error("a request could not be audited", exc_info=fault)

    async def _forward(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._held.append(message)
            declares_length = "content-length" in Headers(raw=message["headers"])
            self._is_stream = not declares_length and self.status not in _EMPTY
            if not self._is_stream:
                return
            await self._writer.write(_begun(self._scope, self.visit))
            self._held = []
        elif not message.get("more_body", False):
            await self._write()
        elif not self._is_stream:
            self._held.append(message)
            return
        held, self._held = self._held, []
        for earlier in held:
            await self._send(earlier)
        await self._send(message)

    async def _write(self) -> None:
        if self._is_written:
            return
        self._is_written = True
        await self._writer.write(self._record())

    def _record(self) -> AuditRecord:
        visit = self.visit
        first_s = visit.first_token_s
        return AuditRecord(
            request_id=visit.request_id,
            outcome=outcome_of(visit, self.status),
            endpoint=route_of(self._scope),
            model=visit.model or "",
            principal=visit.principal,
            tenant=visit.tenant or "",
            end_user=visit.end_user,
            method=method_of(self._scope),
            status=self.status or CLIENT_LEFT,
            prompt_tokens=visit.num_prompt_tokens,
            cached_tokens=visit.num_cached,
            completion_tokens=visit.num_tokens,
            finish=visit.finish or "",
            duration_s=round(self._clock() - visit.arrived_s, 4),
            first_token_s=None if first_s is None else round(first_s - visit.arrived_s, 4),
            guard=visit.guard.by_kind(),
            error=visit.error,
            read=visit.read,
        )


def _begun(scope: Scope, visit: Visit) -> AuditBegun:
    return AuditBegun(visit.request_id, route_of(scope), visit.principal, visit.tenant or "")


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
