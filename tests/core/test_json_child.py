from __future__ import annotations

import time
from pathlib import Path

import pytest

from cynosure.core.json_child import JsonChild

ECHO = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if asked == "die":
        os._exit(1)
    if asked == "sleep":
        time.sleep(60)
    print(json.dumps({"got": asked, "secret": os.environ.get("CYNOSURE_SECRET")}), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    return path


def test_it_answers_line_by_line_and_sees_no_credentials(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYNOSURE_SECRET", "canary")
    child = JsonChild(script)
    assert child.ask('"a"', 30.0) == {"got": "a", "secret": None}
    assert child.ask('"b"', 30.0) == {"got": "b", "secret": None}
    assert child.is_running
    child.end()
    assert not child.is_running


def test_time_is_bounded_from_outside(script: Path) -> None:
    child = JsonChild(script)
    assert child.ask('"a"', 30.0) is not None
    begun = time.monotonic()
    assert child.ask('"sleep"', 0.2) is None
    assert time.monotonic() - begun < 10
    assert child.has_timed_out
    assert not child.is_running


def test_one_that_dies_gives_no_answer_and_did_not_run_out_of_time(script: Path) -> None:
    child = JsonChild(script)
    assert child.ask('"die"', 30.0) is None
    assert not child.has_timed_out
    assert child.ask('"a"', 30.0) is None
