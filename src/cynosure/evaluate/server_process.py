"""Run a server as a process of its own, and see what it uses. Knows nothing of what it serves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from cynosure.core.errors import EnvironmentFault

_STOP_S = 15.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class ServerProcess:
    """A server that was started, with all processes that it starts; leaving the context ends them.

    What it says goes into a file, so that nobody need read it while it runs.
    """

    def __init__(
        self, command: Sequence[str], url: str, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start it; it will be at `url`."""
        self.url = url
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                command,
                env=os.environ | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def __enter__(self) -> ServerProcess:
        """It is started already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()

    def wait_until_ready(
        self, path: str = "/ready", seconds: float = 120.0, headers: Mapping[str, str] | None = None
    ) -> float:
        """Wait until `GET path` is answered by 200; return the seconds that took.

        Raises:
            EnvironmentFault: it ended, or took longer, and was ended.
        """
        begun = time.perf_counter()
        request = urllib.request.Request(f"{self.url}{path}", headers=dict(headers or {}))
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    if response.status == 200:
                        return time.perf_counter() - begun
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            status = self._process.poll()
            taken = time.perf_counter() - begun
            if status is not None or taken > seconds:
                what = "is not ready" if status is None else f"ended with exit status {status}"
                self.stop()
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
                raise EnvironmentFault(f"the server {what} after {taken:.0f} s. It said:\n{tail}")
            time.sleep(0.05)

    def processes(self) -> Iterator[int]:
        """The server's process and all below it, as far as they run."""
        waiting = [self._process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            # Who started a child is a thread: each has its list.
            for children in (_PROC / str(pid) / "task").glob("*/children"):
                try:
                    waiting += map(int, children.read_text().split())
                except OSError:
                    continue

    def process_of(self, words: str) -> int | None:
        """The process below the server whose command line holds these words."""
        for pid in self.processes():
            try:
                command = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if words in command:
                return pid
        return None

    @property
    def rss_bytes(self) -> int:
        """Memory that its processes hold, what they share counted for each."""
        total = 0
        for pid in self.processes():
            try:
                total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
            except OSError:
                continue
        return total

    def stop(self) -> None:
        """Ask it to end, and see that all of it does."""
        below = [pid for pid in self.processes() if pid != self._process.pid]
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in below:
            if (_PROC / str(pid)).exists():
                os.kill(pid, signal.SIGKILL)


def serve(arguments: Sequence[str], scratch: Path, environ: Mapping[str, str] | None = None) -> ServerProcess:
    """Start `cynosure serve` on a free port, without documentation; what it writes goes into `scratch`."""
    port = free_port()
    command = [sys.executable, "-m", "cynosure.cli.main", "serve", "--port", str(port), "--without-docs"]
    homes = {"CYNOSURE_HOME": str(scratch), "XDG_STATE_HOME": str(scratch)}
    return ServerProcess(
        [*command, *arguments],
        f"http://127.0.0.1:{port}",
        scratch / "server.log",
        {**homes, **(environ or {})},
    )
