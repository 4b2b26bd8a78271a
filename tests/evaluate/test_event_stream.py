"""The client reads what servers send, in whatever pieces it comes: against a socket that sends bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.evaluate.event_stream import DONE, EventStream, post

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Id: 7\r\n\r\n"


def against(
    sent: bytes, client: Callable[[str], Awaitable[object]], asked: list[bytes] | None = None
) -> object:
    """What a client makes of a server that answers with these bytes, a few at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if asked is not None:
            asked.extend((head, body))
        for start in range(0, len(sent), 7):
            writer.write(sent[start : start + 7])
            await writer.drain()
        writer.close()

    async def run() -> object:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await client(f"http://127.0.0.1:{port}/v1/x")

    return asyncio.run(run())


async def data_of(url: str) -> list[str]:
    stream = await EventStream.open(url, {"a": 1}, {"X-Api-Key": "k"})
    assert stream.status == 200
    return [event.data async for event in stream.events()]


def chunked(*pieces: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_events_are_whole_however_they_are_cut() -> None:
    asked: list[bytes] = []
    sent = chunked(b'data: {"n": 1}\n', b'\ndata: {"n"', b": 2}\r\n\r\n: note\n\nevent: x\ndata: [DONE]\n\n")
    assert against(sent, data_of, asked) == ['{"n": 1}', '{"n": 2}', DONE]
    assert b"X-Api-Key: k" in asked[0]
    assert json.loads(asked[1]) == {"a": 1}


def test_many_chunks_at_once_and_a_chunk_that_looks_like_its_frame() -> None:
    pieces = [b"data: 0\r\n\r\n", b"data: \r\n", b"\n", *(b"data: %d\n\n" % number for number in range(99))]
    assert against(chunked(*pieces), data_of) == ["0", "", *map(str, range(99))]


def test_a_chunk_that_is_cut_is_an_error() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        against(chunked(b"data: 1\n\n", b"data: 2\n\n")[:-9], data_of)


def test_a_stream_that_is_cut_ends_without_its_last_word() -> None:
    assert against(chunked(b"data: 1\n\n")[:-5], data_of) == ["1"]


def test_a_body_of_a_stated_length() -> None:
    sent = b'HTTP/1.1 503 No\r\nContent-Length: 9\r\nRetry-After: 4\r\n\r\n{"a": 12}ignored'

    async def whole(url: str) -> object:
        return await post(url, {})

    status, headers, body = against(sent, whole)  # type: ignore[misc]
    assert (status, headers["retry-after"], body) == (503, "4", {"a": 12})


@pytest.mark.parametrize(
    ("sent", "error"),
    [(b"SSH-2.0-x\r\n", ConnectionResetError), (b"HTTP/1.1 200 OK\r\n\r\n<html>", EnvironmentFault)],
)
def test_what_is_no_answer(sent: bytes, error: type[Exception]) -> None:
    async def whole(url: str) -> object:
        return await post(url, {})

    with pytest.raises(error):
        against(sent, whole)
