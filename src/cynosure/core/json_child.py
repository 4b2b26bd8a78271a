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
from typing import IO, Any

# Only what an interpreter needs to start.
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
#: Of what it complains of, the end is kept; and of that, a line is told.
_MAX_WORDS = 4096
_WORDS_SECONDS = 2.0


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
            stderr=subprocess.PIPE,
            env=kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.has_timed_out = False
        self._words = bytearray()
        assert self._process.stderr is not None, "the child's complaints come through a pipe"
        # Read all along, so that a child that complains much never waits for a reader.
        self._listener = threading.Thread(
            target=_listen, args=(self._process.stderr, self._words), name="child-words", daemon=True
        )
        self._listener.start()
        weakref.finalize(self, _end, self._process)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """How one that is gone ended: its exit status, and the last line of what it complained of."""
        assert not self.is_running, "it has not ended"
        self._listener.join(_WORDS_SECONDS)
        lines = self._words.decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"exit status {self._process.returncode}: {said[:300]}"

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


def _listen(pipe: IO[bytes], words: bytearray) -> None:
    """Keep the end of what comes, until nothing comes any more."""
    with pipe:
        while said := os.read(pipe.fileno(), _MAX_WORDS):
            words += said
            del words[:-_MAX_WORDS]


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
