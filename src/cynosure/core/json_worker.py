"""Answer a parent's lines of JSON within a bound of memory. Knows nothing of what is computed.

The other end of `json_child`, for scripts that read what strangers made: the parent's clock bounds their
time, and the system their memory; where the parent was killed, the system's clock ends them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:
    # Windows has no such limits: the parent's clock still holds.
    resource = None

_PAGES = Path("/proc/self/statm")


class Refused(Exception):
    """What was asked can't be done; the message says why, and what helps."""


def serve(answer: Callable[[Any], Mapping[str, object]]) -> None:
    """Answer until the input ends: first the limits, then each line.

    The limits are `max_bytes` beside what is held, and `max_cpu_seconds` in all. What `answer` refuses, or
    what needs more memory, is told as `{"error": ...}`.
    """
    _bound(**json.loads(sys.stdin.readline()))
    _tell({})
    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Refused as refused:
            told = {"error": str(refused)}
        except MemoryError:
            told = {"error": "needs more memory than it may use. Split it."}
        _tell(told)


def _bound(max_bytes: int, max_cpu_seconds: int) -> None:
    if resource is not None:
        held = int(_PAGES.read_text().split()[0]) * resource.getpagesize() if _PAGES.exists() else 0
        size = held + max_bytes
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CPU, (max_cpu_seconds, max_cpu_seconds))


def _tell(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
