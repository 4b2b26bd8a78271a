"""Keep the child process that renders a template within its limits. Knows nothing of messages.

A template is a program from the net. Inside one process nothing stops `'a' * 10**10` or `9**9**9`, which
never return to the interpreter; a child can be ended at any time, and the system bounds its memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cynosure.core.errors import EnvironmentFault, TemplateError
from cynosure.core.json_child import JsonChild

_WORKER = Path(__file__).with_name("template_worker.py")

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


@dataclass(frozen=True)
class CallerRun:
    """Characters `start:end` of an output came from a caller's string.

    Attributes:
        start: The first of them, in code points.
        end: Behind the last.
        path: Keys and indices to the string: `("messages", 0, "content")`.
        offset: Where in the string they begin; None where they were changed on the way.
    """

    start: int
    end: int
    path: tuple[str | int, ...]
    offset: int | None


@dataclass(frozen=True)
class Rendering:
    """An output; what no run holds was written by the template."""

    text: str
    runs: tuple[CallerRun, ...]


class TemplateProcess:
    """One template in one child; it starts when first needed and again after it was ended.

    Renderings of one template run one after another; threads may share the object.
    """

    def __init__(self, source: str, limits: TemplateLimits) -> None:
        """Keep the template's source; no child is started yet."""
        self._source = source
        self._limits = limits
        self._lock = threading.Lock()
        self._child: JsonChild | None = None

    def render(self, fixed: Mapping[str, object], traced: Mapping[str, object]) -> Rendering:
        """The output of the template, with where the strings in `traced` went.

        Args:
            fixed: Variables that count as the template's own text.
            traced: Variables that a caller wrote.

        Raises:
            TemplateError: It does not parse, raises, or runs over a limit; or the variables are not JSON.
            EnvironmentFault: No child process can be started.
        """
        try:
            line = json.dumps({"fixed": fixed, "traced": traced}, allow_nan=False)
        except RecursionError as error:
            raise TemplateError("the messages are nested too deeply. Flatten them.") from error
        except (TypeError, ValueError) as error:
            raise TemplateError(f"the chat is not made of JSON values: {error}. Send plain JSON.") from error
        with self._lock:
            if self._child is None or not self._child.is_running:
                self._end()
                self._start()
            answer = self._ask(line, self._limits.max_seconds)
        runs = (CallerRun(start, end, tuple(path), offset) for start, end, path, offset in answer["runs"])
        return Rendering(answer["text"], tuple(runs))

    def close(self) -> None:
        """End the child; a later rendering starts another."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        try:
            self._child = JsonChild(_WORKER)
        except OSError as error:
            raise EnvironmentFault(
                f"no process for the chat template can be started: {error.strerror}. Free memory or process "
                "slots."
            ) from error
        child = self._child
        if child.ask(json.dumps(asdict(self._limits)), _START_SECONDS) is None:
            self._end()
            how = f"did not start within {_START_SECONDS:g} s"
            if not child.has_timed_out:
                how = f"ended as it started ({child.last_words})"
            raise EnvironmentFault(
                f"the process for the chat template {how}. Free memory, or install cynosure again."
            )
        try:
            self._ask(json.dumps({"template": self._source}), self._limits.max_seconds)
        except TemplateError:
            # A template that does not compile has nothing to render.
            self._end()
            raise

    def _ask(self, line: str, max_seconds: float) -> dict[str, Any]:
        child = self._child
        assert child is not None, "no child was started"
        answer = child.ask(line, max_seconds)
        if not child.is_running:
            self._end()
        if answer is None:
            raise TemplateError(_death(child.has_timed_out, max_seconds, self._limits.max_bytes))
        if "error" in answer:
            reason = answer["error"].rstrip(" .:")
            raise TemplateError(f"the chat template failed: {reason}. Check the messages, or the template.")
        return answer

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


def _death(timed_out: bool, max_seconds: float, max_bytes: int) -> str:
    if timed_out:
        return f"the chat template ran over its limit of {max_seconds:g} s. Use another template."
    return f"the process of the chat template died; its limit is {max_bytes} bytes. Use another template."
