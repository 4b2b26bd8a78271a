"""Run a script of ours in a child that can be ended at any time. Knows nothing of what it computes.

Parent and child exchange lines of JSON, one answer a line. What the child works on comes from the net, so
that it sees no credentials, and its time is bounded from outside, where native code can't hold it up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

# Only what an interpreter needs to start.
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class JsonChild:
    """One child process; one thread asks, any may kill."""

    def __init__(self, script: Path) -> None:
        """Start it.

        Raises:
            OSError: no process can be started.
        """
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.has_timed_out = False
        weakref.finalize(self, _end, self._process)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, line: str, max_seconds: float) -> dict[str, Any] | None:
        """Return the answer to a line; `None` where the child died or ran out of time, and is ended then."""
        process = self._process
        assert process.stdin is not None, "the child's input is a pipe"
        assert process.stdout is not None, "the child's output is a pipe"
        timer = threading.Timer(max_seconds, self._run_out)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except (OSError, ValueError):
            # The pipes of a child that is gone are broken, of one that was ended closed.
            reply = b""
        finally:
            timer.cancel()
            timer.join()
        if self.has_timed_out or not reply.endswith(b"\n"):
            self.end()
        return json.loads(reply) if reply.endswith(b"\n") else None

    def kill(self) -> None:
        """End it from another thread; who asks it gets no answer."""
        self._process.kill()

    def end(self) -> None:
        """End it, and wait until it is gone."""
        _end(self._process)

    def _run_out(self) -> None:
        self.has_timed_out = True
        self._process.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                # Unsent bytes for a process that is gone.
                continue
    process.wait()
