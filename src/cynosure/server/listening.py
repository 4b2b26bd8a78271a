"""Listen on an address until told to stop. Knows nothing of routes.

The address is taken before anything slow begins: a port in use is known in the first moment.
"""

from __future__ import annotations

import errno
import math
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from cynosure.core.errors import EnvironmentFault, PortInUse
from cynosure.server.admission import Admission
from cynosure.server.app import make_app
from cynosure.server.records.oversight import Oversight
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings


def take_port(settings: ServerSettings) -> socket.socket:
    """A socket that is bound to the address; with port 0 the system chooses one.

    Raises:
        PortInUse: somebody else listens there.
        EnvironmentFault: the address is not this machine's, or may not be taken.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as failure:
        raise EnvironmentFault(
            f"host {host!r} has no address ({failure.strerror}). Name another."
        ) from failure
    # Named TCP, so that asyncio sends small packets at once: it asks the protocol before it sets TCP_NODELAY.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as failure:
        listener.close()
        if failure.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} of {host} is in use by another process. Stop that one, or take another: "
                f"--port {port + 1}."
            ) from failure
        raise EnvironmentFault(
            f"{host}:{port} can't be listened on ({failure.strerror}). Name another."
        ) from failure
    return listener


def listen(
    listener: socket.socket,
    runtime: Runtime,
    settings: ServerSettings,
    when_ready: Callable[[], None] = lambda: None,
    when_stopping: Callable[[], None] = lambda: None,
    admission: Admission | None = None,
    oversight: Oversight | None = None,
) -> None:
    """Answer requests, at first with 503, until SIGINT or SIGTERM; load beside that.

    Without an admission nobody is asked for a key. `when_stopping` is called in a signal's handler.

    Raises:
        BaseException: what loading failed with.
    """
    server = _Server(
        uvicorn.Config(
            make_app(runtime, settings, admission, oversight),
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=max(1, math.ceil(settings.stop_timeout_s)),
        ),
        when_stopping,
    )

    def loaded() -> None:
        if runtime.services is not None:
            when_ready()
        else:
            server.should_exit = True

    try:
        runtime.start(loaded)
        server.run(sockets=[listener])
    finally:
        listener.close()
        runtime.stop()
    if runtime.failure is not None:
        raise runtime.failure


class _Server(uvicorn.Server):
    """A server whose end by a signal is an end like any other: uvicorn would raise the signal again."""

    def __init__(self, config: uvicorn.Config, when_stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_stopping = when_stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif not self.should_exit:
            self._when_stopping()
        self.should_exit = True
