"""A port that is taken sends small answers at once."""

from __future__ import annotations

import signal
import socket

import uvicorn

from cynosure.server.listening import _Server, take_port
from cynosure.server.settings import ServerSettings


def test_connections_are_tcp_by_name_so_that_nothing_waits_for_a_full_packet() -> None:
    """asyncio sets TCP_NODELAY on no socket whose protocol is 0; each answer then waits 40 ms."""
    with take_port(ServerSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP


def test_the_first_signal_is_told_and_the_second_ends_at_once() -> None:
    told: list[str] = []
    server = _Server(uvicorn.Config(app=_never), lambda: told.append("stopping"))
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, server.force_exit) == (True, True)
    assert told == ["stopping"]


async def _never(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody asks")
