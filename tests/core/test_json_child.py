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


NOISY = """
import json, sys
for line in sys.stdin:
    sys.stderr.write("noise " * 40000 + "\\nthe last of it\\n\\n")
    sys.stderr.flush()
    if json.loads(line) == "raise":
        raise LookupError("nothing here")
    print(json.dumps({"got": 1}), flush=True)
"""


def test_last_words_are_told_and_much_noise_holds_nothing_up(tmp_path: Path) -> None:
    script = tmp_path / "noisy.py"
    script.write_text(NOISY)
    child = JsonChild(script)
    for _ in range(3):
        assert child.ask('"a"', 30.0) == {"got": 1}
    assert child.ask('"raise"', 30.0) is None
    assert not child.has_timed_out
    assert child.last_words == "exit status 1: LookupError: nothing here"


def test_a_script_that_is_not_there_is_known_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    child = JsonChild(tmp_path / "absent.py")
    assert child.ask("1", 60.0) is None
    assert time.monotonic() - begun < 20
    assert not child.has_timed_out
    assert "absent.py" in child.last_words
    assert child.last_words.startswith("exit status 2: ")


def test_one_that_was_ended_says_so(script: Path) -> None:
    child = JsonChild(script)
    child.end()
    assert child.last_words == "exit status -9: it said nothing"
