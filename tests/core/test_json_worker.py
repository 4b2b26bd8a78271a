"""Test that a worker answers line by line, tells what it refuses, and outlives what it has no memory for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cynosure.core.json_child import JsonChild

WORKER = """
from cynosure.core.json_worker import Refused, serve

def answer(asked):
    while asked == "loop":
        pass
    if asked == "refuse":
        raise Refused("is refused")
    return {"size": len(bytes(asked << 20))}

serve(answer)
"""


def _limits(max_bytes: int, max_cpu_seconds: int) -> str:
    return json.dumps({"max_bytes": max_bytes, "max_cpu_seconds": max_cpu_seconds})


@pytest.mark.skipif(sys.platform == "win32", reason="no bounds of memory there")
def test_refusals_and_memory_are_told_and_the_next_is_answered(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    child = JsonChild(script)
    assert child.ask(_limits(64 << 20, 60), 60.0) == {}
    assert child.ask("8", 60.0) == {"size": 8 << 20}
    assert child.ask('"refuse"', 60.0) == {"error": "is refused"}
    assert child.ask("256", 60.0) == {"error": "needs more memory than it may use. Split it."}
    assert child.ask("8", 60.0) == {"size": 8 << 20}
    child.end()


@pytest.mark.skipif(sys.platform == "win32", reason="no bounds of time there")
def test_a_loop_ends_though_nobody_ends_it(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    child = JsonChild(script)
    assert child.ask(_limits(64 << 20, 1), 60.0) == {}
    assert child.ask('"loop"', 120.0) is None
    assert not child.has_timed_out
