"""Ask a process for measurements, as `peer/lines.py` has it answer. Knows nothing of what computes in it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Before each question: the threads of whoever answered last may spin for a while, and hold cores.
PAUSE_S = 0.3


class ChildEnded(Exception):
    """A process ended where it should have answered; says what it wrote last."""


class LineChild:
    """A process that is there to be asked; `told` is what it said at first."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it is ready.

        Raises:
            ChildEnded: it could not be.
        """
        log, name = tempfile.mkstemp()
        self._log = Path(name)
        self._process = subprocess.Popen(
            command,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | dict(environ or {}),
        )
        os.close(log)
        try:
            self.told = self._answer()
        except ChildEnded:
            self.end()
            raise

    @property
    def name(self) -> str:
        """As it calls itself."""
        return str(self.told["ready"])

    def ask(self, what: str) -> dict[str, float]:
        """One measurement.

        Raises:
            ChildEnded: it broke.
        """
        time.sleep(PAUSE_S)
        assert self._process.stdin is not None
        # Where it broke before, its last words say more.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Where it broke, what it was not told yet can't be told any more.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.unlink()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        raise ChildEnded(" | ".join(last) or "it ended in silence")
