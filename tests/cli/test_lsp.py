"""Drive `cynosure lsp` as an editor does: a process, and messages over its standard input and output."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cynosure.cli.editor.filling import Gap, Question
from cynosure.cli.editor.local_filler import LocalFiller
from cynosure.cli.main import main
from tests.cli.editor.raw_editor import INLINE, INVOKED, RawEditor, inline, span

TEXT = "the star\nsteers = '🙂🙂' + sail\nend\n"
CANCELLED = -32800


def proposed(filler: LocalFiller, text: str) -> str:
    """What the model says behind `sail`."""
    gap = Gap(text, text.index("sail") + len("sail"))
    return asyncio.run(filler.fill(Question(gap))).text


def test_a_session_of_an_editor(gap_model: Path, filler: LocalFiller) -> None:
    changed = TEXT.replace("steers", "a\fb")
    expected = [proposed(filler, TEXT), proposed(filler, changed)]
    assert all(text.strip() for text in expected)
    command = [sys.executable, "-m", "cynosure.cli.main", "lsp", "--stdio", "--dtype", "float32"]
    server = subprocess.Popen(
        [*command, "--model", str(gap_model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stderr is not None
    with server:
        editor = RawEditor(server.stdout, server.stdin)
        editor.start("utf-16")
        editor.open(TEXT)
        # The model is still being loaded: whoever asks now waits.
        taken_back = editor.ask(INLINE, **inline(1, 21, INVOKED))
        editor.tell("$/cancelRequest", id=taken_back)
        assert editor.answer(taken_back)["error"]["code"] == CANCELLED
        # Behind characters of two units each.
        found = editor.result(INLINE, **inline(1, 21))
        assert found == {"items": [{"insertText": expected[0], "range": span(1, 21, 21)}]}
        # A form feed, which Python would end a line at, ends none here.
        editor.change({"range": span(1, 0, 6), "text": "a\fb"})
        overtaken = editor.ask(INLINE, **inline(0, 8, INVOKED))
        found = editor.result(INLINE, **inline(1, 18))
        assert found == {"items": [{"insertText": expected[1], "range": span(1, 18, 18)}]}
        assert editor.answer(overtaken)["result"] == {"items": []}
        editor.stop()
        assert server.wait(60) == 0
        assert server.stdout.read() == b""
        assert b"Traceback" not in server.stderr.read()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--url", "https://here"], "plain HTTP"),
        (["--url", "http://here", "--dtype", "float32"], "--dtype is of a model in this process"),
    ],
)
def test_options_that_do_not_go_together_are_said_at_once(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lsp", *given]) == 1
    assert words in capsys.readouterr().err


def test_it_answers_before_torch_is_there() -> None:
    code = "import sys, cynosure.cli.lsp; print('torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True
    )
    assert out.stdout.strip() == "False"
