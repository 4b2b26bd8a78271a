"""Ask a server for a stream of events, and note when each came. Knows nothing of what they mean.

A client of HTTP/1.1 with nothing between it and the socket: what is timed is the server, and a client may
stall or leave as real ones do.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cynosure.core.errors import EnvironmentFault

DONE = "[DONE]"


@dataclass(frozen=True)
class StreamEvent:
    """What came, and when, on the clock of `time.perf_counter`."""

    at_s: float
    data: str

    @property
    def json(self) -> dict[str, Any]:
        """What came, read as an object."""
        return json.loads(self.data)


class EventStream:
    """One request and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold the connection; `open` makes one."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls,
        url: str,
        body: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        receive_bytes: int | None = None,
    ) -> EventStream:
        """Send a request, and read its answer's status and headers.

        Args:
            url: where to.
            body: sent as JSON.
            headers: more of them.
            receive_bytes: how much the system may hold for a client that does not read; as it likes.

        Raises:
            OSError: there is no server, or it hung up.
        """
        parts = urlsplit(url)
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
        except BaseException:
            connection.close()
            raise
        reader, writer = await asyncio.open_connection(sock=connection, limit=receive_bytes or 1 << 16)
        stream = cls(reader, writer)
        content = json.dumps(body).encode()
        sent = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        lines = [f"POST {parts.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**sent, **(headers or {})}.items()]
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + content)
            await stream._read_head()
        except BaseException:
            stream.leave()
            raise
        return stream

    async def events(self) -> AsyncGenerator[StreamEvent]:
        """The events up to the last, which is `DONE` where the answer is complete; then hang up."""
        pending = b""
        try:
            async for piece in self._pieces():
                now = time.perf_counter()
                pending += piece.replace(b"\r\n", b"\n")
                *whole, pending = pending.split(b"\n\n")
                for event in whole:
                    for line in event.split(b"\n"):
                        if line.startswith(b"data:"):
                            yield StreamEvent(now, line[5:].strip().decode())
        finally:
            self.leave()

    async def read(self) -> bytes:
        """The whole body; then hang up."""
        try:
            return b"".join([piece async for piece in self._pieces()])
        finally:
            self.leave()

    def leave(self) -> None:
        """Hang up at once, whatever is under way."""
        self._writer.transport.abort()

    async def _read_head(self) -> None:
        status = await self._reader.readline()
        if not status.startswith(b"HTTP/1."):
            raise ConnectionResetError(f"the server answered {status[:80]!r}, which is no HTTP")
        self.status = int(status.split()[1])
        while line := (await self._reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            async for piece in self._chunks():
                yield piece
            return
        left = int(self.headers.get("content-length", 1 << 62))
        while left and (piece := await self._reader.read(min(left, 1 << 16))):
            left -= len(piece)
            yield piece

    async def _chunks(self) -> AsyncGenerator[bytes]:
        """Contents of a chunked body; what came together is given together, which costs little more than one.

        Raises:
            IncompleteReadError: it ended within a chunk.
        """
        pending, is_last = bytearray(), False
        while not is_last and (piece := await self._reader.read(1 << 16)):
            pending += piece
            whole, is_last = _taken(pending)
            if whole:
                yield whole
        if not is_last and pending:
            raise asyncio.IncompleteReadError(bytes(pending), None)


def _taken(pending: bytearray) -> tuple[bytes, bool]:
    """Take the chunks off that are whole: their contents, and whether the last of all is among them."""
    whole, start, size = bytearray(), 0, 1
    while size and (found := pending.find(b"\r\n", start)) >= 0:
        size = int(bytes(pending[start:found]).split(b";")[0], 16)
        end = found + 2 + size
        if len(pending) < end + 2:
            size = 1
            break
        whole += pending[found + 2 : end]
        start = end + 2
    del pending[:start]
    return bytes(whole), not size


async def post(
    url: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send a request that is answered whole: status, headers and what the body says.

    Raises:
        EnvironmentFault: the answer is no JSON.
        OSError: there is no server, or it hung up.
    """
    stream = await EventStream.open(url, body, headers)
    content = await stream.read()
    try:
        return stream.status, stream.headers, json.loads(content)
    except ValueError as fault:
        raise EnvironmentFault(f"{url} answered {content[:200]!r}, which is no JSON ({fault}).") from fault
