"""Have a file read by a child that a hostile one can't outgrow. Knows nothing of formats.

A few kilobytes of PDF or ZIP can ask for hours of work or gigabytes of memory. The child has a clock and a
bound, and dies alone; each file has a child of its own, so that none reads what another left behind.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynosure.core.errors import EnvironmentFault, InputError
from cynosure.core.json_child import JsonChild

# Starting an interpreter on a busy machine is not the file's fault.
_START_SECONDS = 60.0


@dataclass(frozen=True)
class ReadingLimits:
    """What reading one file may use.

    Attributes:
        max_seconds: Wall-clock time.
        max_bytes: Memory of the child, beside what an interpreter has.
        max_chars: Length of the text that is read.
        max_expanded_bytes: What is unpacked of a DOCX.
    """

    max_seconds: float = 120.0
    max_bytes: int = 1 << 30
    max_chars: int = 16 << 20
    max_expanded_bytes: int = 128 << 20


def read_bounded(script: Path, name: str, content: bytes, limits: ReadingLimits) -> dict[str, Any]:
    """What the script answers to a file's content.

    Raises:
        InputError: the file is refused, or runs over a limit.
        EnvironmentFault: no child can be started.
    """
    asked = {
        "content": base64.b64encode(content).decode(),
        "max_chars": limits.max_chars,
        "max_expanded_bytes": limits.max_expanded_bytes,
    }
    child = _started(script, limits)
    try:
        answer = child.ask(json.dumps(asked), limits.max_seconds)
    finally:
        child.end()
    if answer is None and child.has_timed_out:
        raise InputError(
            f"{name} was not read within {limits.max_seconds:g} s, which is the limit. Split it, "
            "or leave it out."
        )
    if answer is None:
        raise InputError(
            f"{name} made its reader die ({child.last_words}), which may use {limits.max_bytes >> 20} MiB. "
            "Leave it out."
        )
    if "error" in answer:
        raise InputError(f"{name} {answer['error']}")
    return answer


def _started(script: Path, limits: ReadingLimits) -> JsonChild:
    try:
        child = JsonChild(script)
    except OSError as fault:
        raise EnvironmentFault(
            f"no process to read files in can be started: {fault.strerror}. Free memory or process slots."
        ) from fault
    # The clock of the parent comes first: this one is for a child whose parent was killed.
    bounds = {"max_bytes": limits.max_bytes, "max_cpu_seconds": int(_START_SECONDS + 2 * limits.max_seconds)}
    if child.ask(json.dumps(bounds), _START_SECONDS) is None:
        child.end()
        how = f"did not start within {_START_SECONDS:g} s"
        if not child.has_timed_out:
            how = f"ended as it started ({child.last_words})"
        raise EnvironmentFault(f"the process to read files in {how}. Free memory, or install cynosure again.")
    return child
