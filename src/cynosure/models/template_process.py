"""Keep the child process that renders a template within its limits. Knows nothing of messages.

A template is a program from the net. Inside one process nothing stops `'a' * 10**10` or `9**9**9`, which
never return to the interpreter; a child can be ended at any time, and the system bounds its memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cynosure.core.errors import EnvironmentFault, TemplateError

_WORKER = Path(__file__).with_name("template_worker.py")

# The child sees no credentials, only what an interpreter needs to start.
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")

# Starting an interpreter on a busy machine is not the template's fault.
_START_SECONDS = 60.0


@dataclass(frozen=True)
class TemplateLimits:
    """What one rendering may use.

    Attributes:
        max_seconds: Wall-clock time.
        max_chars: Length of the output.
        max_bytes: Address space of the process, the interpreter's own 100 MB included.
    """

    max_seconds: float = 5.0
    max_chars: int = 8_000_000
    max_bytes: int = 1 << 30


class TemplateProcess:
    """One template in one child; it starts when first needed and again after it was ended.

    Renderings of one template run one after another; threads may share the object.
    """

    def __init__(self, source: str, limits: TemplateLimits) -> None:
        """Keep the template's source; no child is started yet."""
        self._source = source
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, variables: Mapping[str, object]) -> str:
        """The output of the template.

        Raises:
            TemplateError: It does not parse, raises, or runs over a limit; or the variables are not JSON.
            EnvironmentFault: No child process can be started.
        """
        try:
            line = json.dumps(variables, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateError(f"the chat is not made of JSON values: {error}. Send plain JSON.") from error
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._end()
                self._start()
            return self._ask(line, self._limits.max_seconds)

    def close(self) -> None:
        """End the child; a later rendering starts another."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            raise EnvironmentFault(
                f"no process for the chat template can be started: {error.strerror}. Free memory or process "
                "slots."
            ) from error
        weakref.finalize(self, _end, self._child)
        self._ask(json.dumps(asdict(self._limits)), _START_SECONDS)
        try:
            self._ask(json.dumps({"template": self._source}), self._limits.max_seconds)
        except TemplateError:
            # A template that does not compile has nothing to render.
            self._end()
            raise

    def _ask(self, line: str, max_seconds: float) -> str:
        child = self._child
        assert child is not None, "no child was started"
        assert child.stdin is not None, "the child's input is a pipe"
        assert child.stdout is not None, "the child's output is a pipe"
        timed_out = threading.Event()
        timer = threading.Timer(max_seconds, lambda: (timed_out.set(), child.kill()))
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(line.encode() + b"\n")
            child.stdin.flush()
            reply = child.stdout.readline()
        except OSError:
            reply = b""
        finally:
            timer.cancel()
            timer.join()
        if timed_out.is_set():
            self._end()
        if not reply.endswith(b"\n"):
            self._end()
            raise TemplateError(_death(timed_out.is_set(), max_seconds, self._limits.max_bytes))
        answer = json.loads(reply)
        if "error" in answer:
            reason = answer["error"].rstrip(" .:")
            raise TemplateError(f"the chat template failed: {reason}. Check the messages, or the template.")
        return answer["text"] or ""

    def _end(self) -> None:
        if self._child is not None:
            _end(self._child)
            self._child = None


def _death(timed_out: bool, max_seconds: float, max_bytes: int) -> str:
    if timed_out:
        return f"the chat template ran over its limit of {max_seconds:g} s. Use another template."
    return f"the process of the chat template died; its limit is {max_bytes} bytes. Use another template."


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                # Unsent bytes for a process that is gone.
                continue
    child.wait()
