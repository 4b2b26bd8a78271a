"""Refuse requests before anything reads them: strangers, foreign pages, bodies too large. Knows no route."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cynosure.core.errors import AccessDenied
from cynosure.server.admission import Admission
from cynosure.server.errors import body_of, headers_of, refusal
from cynosure.server.protocols import translated
from cynosure.server.settings import ServerSettings
from cynosure.server.visit import Visit, visit_in

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
#: Where a file comes in, as browsers and OpenAI's clients send one; everything else is JSON.
_UPLOADS = frozenset({"/v1/files"})
_JSON, _FORM = "application/json", "multipart/form-data"
#: A client that is still sending does not read: so much of a refused body is taken in and dropped.
_MAX_DROPPED = 32 << 20
_POLICY_VIOLATION = 1008
#: How much of a body that was read is handed on at a time.
_PIECE = 1 << 18


class Gate:
    """The outermost layer of the application.

    No header lets pages of other origins read answers (there is no CORS), a request that says it comes from
    one is refused, and so is one that calls us by a name that is not ours (DNS rebinding). Who has no key is
    refused before a byte of a body is read.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, admission: Admission) -> None:
        """Stand before an application."""
        self._app = app
        self._settings = settings
        self._admission = admission
        self._num_in_flight = 0
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "websocket":
            # Nothing here speaks it, and nobody would ask it for a key.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        visit = visit_in(scope)
        try:
            refused = await self._serve(scope, receive, send, visit)
            if refused is not None:
                await translated(refused, scope["path"], visit.request_id)(scope, receive, send)
        finally:
            self._admission.leave(visit)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> JSONResponse | None:
        """Have the application answer, or say why it is not asked."""
        headers = Headers(scope=scope)
        refused = self._refuse_sender(scope, headers) or self._refuse_stranger(scope, headers, visit)
        if refused is None and _is_upload(scope):
            return await self._serve_upload(scope, receive, send, headers)
        return refused or await self._take(scope, receive, send, headers)

    async def _serve_upload(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers
    ) -> JSONResponse | None:
        """The same for a file; few are under way at a time."""
        limit = self._settings.max_uploads
        if self._num_uploads >= limit:
            await self._read(headers, receive, 0, self._settings.body_timeout_s)
            return refusal(503, f"{limit} uploads are under way, the limit. Retry.", "busy", retry=True)
        self._num_uploads += 1
        try:
            return await self._take(scope, receive, send, headers)
        finally:
            self._num_uploads -= 1

    async def _take(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers
    ) -> JSONResponse | None:
        """Read the body, where there may be one, and have the application answer."""
        is_work, refused, settings = scope["method"] in _WITH_BODY, None, self._settings
        if is_work:
            upload = settings.max_upload_bytes, settings.upload_timeout_s
            other = settings.max_body_bytes, settings.body_timeout_s
            body, refused = await self._read(headers, receive, *(upload if _is_upload(scope) else other))
            receive = _replayed(body, receive)
        if refused is None and is_work and self._num_in_flight >= settings.max_in_flight:
            limit = settings.max_in_flight
            refused = refusal(503, f"{limit} requests are in flight, the limit. Retry.", "busy", retry=True)
        if refused is not None:
            return refused
        self._num_in_flight += is_work
        try:
            await self._answer(scope, receive, send)
        finally:
            self._num_in_flight -= is_work
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; a failure that nothing inside took is an answer too."""
        is_begun = False

        async def begin(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, begin)
        except Exception as failure:
            visit_in(scope).error = type(failure).__name__
            status, body = body_of(failure)
            if is_begun:
                raise
            failed = translated(JSONResponse(body, status), scope["path"], visit_in(scope).request_id)
            await failed(scope, receive, send)

    def _refuse_sender(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._settings.admits(host):
            text = f"this server does not go by the name {host[:100]!r}. Use its address, or --allow-host."
            return refusal(403, text, "foreign_host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            text = f"pages of {origin[:100]!r} may not use this server; only its own page may."
            return refusal(403, text, "foreign_origin")
        if scope["method"] in _WITH_BODY:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            wanted = _FORM if _is_upload(scope) else _JSON
            taken = (_FORM, _JSON) if scope["path"] in _UPLOADS and wanted == _JSON else (wanted,)
            # Without type and body there is nothing to read; the address says by which method it is asked.
            if kind not in taken and (kind or _has_body(headers)):
                text = f"content type is {kind[:100]!r}; only {wanted} is taken here. Set the header."
                return refusal(415, text, "unsupported_content_type")
        return None

    def _refuse_stranger(self, scope: Scope, headers: Headers, visit: Visit) -> JSONResponse | None:
        try:
            is_work = scope["method"] in _WITH_BODY
            self._admission.enter(visit, scope["path"], headers, is_work=is_work)
        except AccessDenied as failure:
            visit.error = type(failure).__name__
            status, body = body_of(failure)
            return JSONResponse(body, status, headers_of(failure, status))
        return None

    async def _read(
        self, headers: Headers, receive: Receive, limit: int, patience_s: float
    ) -> tuple[bytes, JSONResponse | None]:
        """The whole body, or why it is not taken."""
        declared = headers.get("content-length", "0")
        body, size = bytearray(), 0
        too_large = not declared.isdigit() or int(declared) > limit
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    message = await receive()
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    too_large = too_large or size > limit
                    if not too_large:
                        body += chunk
                    if not message.get("more_body", False) or size > _MAX_DROPPED:
                        break
        except TimeoutError:
            text = f"the body took longer than {patience_s:g} s to arrive. Send it again."
            return b"", refusal(408, text, "body_too_slow")
        if too_large:
            text = f"the body is larger than {limit} bytes, the limit of one request. Send less at a time."
            return b"", refusal(413, text, "body_too_large")
        return bytes(body), None


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"] in _UPLOADS


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, then what comes after it: that the client left.

    A large one comes in pieces, between which others are served: whoever reads a form does so at once.
    """
    place: int | None = 0

    async def replay() -> Message:
        nonlocal place
        if place is None:
            return await receive()
        if place > 0:
            await asyncio.sleep(0)
        piece = body[place : place + _PIECE]
        place = place + _PIECE if place + _PIECE < len(body) else None
        return {"type": "http.request", "body": piece, "more_body": place is not None}

    return replay


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers
