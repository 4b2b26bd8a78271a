"""A port that is taken sends small answers at once."""

from __future__ import annotations

import socket

from cynosure.server.listening import take_port
from cynosure.server.settings import ServerSettings


def test_connections_are_tcp_by_name_so_that_nothing_waits_for_a_full_packet() -> None:
    """asyncio sets TCP_NODELAY on no socket whose protocol is 0; each answer then waits 40 ms."""
    with take_port(ServerSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP
