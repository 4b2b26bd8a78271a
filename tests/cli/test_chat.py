"""Converse on a terminal that is not there: input, commands, drawing, stopping."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cynosure.cli import chat_view
from cynosure.cli.chat import Chat, converse
from cynosure.cli.chat_input import Command, Typed, read_typed
from cynosure.cli.chat_view import AnswerView
from cynosure.cli.main import main
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat.answer import Said, Thought
from tests.server.chat_models import SOURCE, ScriptedModel, scripted


def lines(*given: str) -> Callable[[str], str]:
    left: Iterator[str] = iter(given)

    def read_line(_: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return read_line


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        (["hello "], Typed("hello")),
        (["a\\", "b\\", "c"], Typed("a\nb\nc")),
        (['"""a', " b", '"""'], Typed("a\n b")),
        (['"""a"""'], Typed("a")),
        (['"""', "/quit", '"""'], Typed("/quit")),
        (["/quit"], Typed("", Command.QUIT)),
        (["/exit"], Typed("", Command.QUIT)),
        (["/system  Be brief. "], Typed("Be brief.", Command.SYSTEM)),
        (["/usr/bin is a folder"], Typed("/usr/bin is a folder")),
        ([""], Typed("")),
    ],
)
def test_what_is_typed(given: list[str], typed: Typed) -> None:
    assert read_typed(lines(*given)) == typed


def test_what_is_no_command() -> None:
    with pytest.raises(ValueError, match="/nope is no command; these are: /quit, /clear"):
        read_typed(lines("/nope"))
    with pytest.raises(EOFError):
        read_typed(lines('"""a'))


@pytest.fixture
def model(tmp_path: Path) -> ScriptedModel:
    return scripted(tmp_path)


def held(model: ScriptedModel, *given: str, is_terminal: bool = True, max_tokens: int | None = None) -> str:
    """What a terminal of 60 columns shows of a conversation."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=60, color_system=None, highlight=False)
    chat = Chat(model, SamplingParams(max_tokens=1), max_tokens, console)
    converse(chat, lines(*given))
    return screen.getvalue()


def test_a_conversation_remembers(model: ScriptedModel) -> None:
    model.answer = "One **bold** word."
    shown = held(model, "/system Be brief.", "first", "second", "/undo", "third", "/clear", "fourth", "/quit")
    assert "One bold word." in shown
    assert "tokens" in shown
    prompts = [model.tokenizer.decode(prompt, skip_special_tokens=False) for prompt in model.prompts]
    assert all(prompt.startswith("<|im_start|>system\nBe brief.") for prompt in prompts)
    assert [[word in prompt for word in ("first", "second", "third", "fourth")] for prompt in prompts] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]
    assert "<|im_start|>assistant\nOne **bold** word.<|im_end|>" in prompts[1]


def test_a_terminal_does_not_obey_a_model(model: ScriptedModel) -> None:
    model.answer = "<think>\x1b]0;a\x07</think>b\x1b[2Jc\x9bd"
    shown = held(model, "first")
    assert "␛[2Jc�d" in shown
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown


def test_a_question_may_be_asked_again(model: ScriptedModel) -> None:
    shown = held(model, "/retry", "first", "second", "/retry", "/quit")
    assert "Nothing was asked." in shown
    prompts = [model.tokenizer.decode(prompt) for prompt in model.prompts]
    assert len(prompts) == 3
    assert prompts[2] == prompts[1] != prompts[0]


def test_a_conversation_is_saved(model: ScriptedModel, tmp_path: Path) -> None:
    model.answer = "Größe."
    text, wire = tmp_path / "talk.md", tmp_path / "talk.json"
    shown = held(
        model,
        "/system Be brief.",
        "first",
        f"/save {text}",
        f"/save {wire}",
        f"/save {text}",
        "/save",
        "more",
    )
    assert "".join(shown.split()).count("Writtento") == 2
    assert "already" in shown
    assert "no file is named" in shown
    assert text.read_text() == "## System\n\nBe brief.\n\n## You\n\nfirst\n\n## Model\n\nGröße.\n"
    assert json.loads(wire.read_text())["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "Größe."},
    ]
    assert len(model.prompts) == 2, "the conversation goes on"


def test_a_question_that_was_stopped_at_once_is_unasked(model: ScriptedModel) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    chat = Chat(model, SamplingParams(max_tokens=1), None, Console(file=io.StringIO()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerView, "add", stop)
        converse(chat, lines("first"))
    assert chat.turns == []


def test_thoughts_are_shown_and_forgotten(model: ScriptedModel) -> None:
    model.answer = "<think>\nHm, a star.\nOr two.\n</think>\n\nYes."
    shown = held(model, "first", "second")
    assert shown.count("Hm, a star.") >= 2
    assert "Or two." in shown
    assert "Hm" not in model.tokenizer.decode(model.prompts[-1])


def test_what_goes_wrong_is_said_and_the_conversation_goes_on(model: ScriptedModel) -> None:
    shown = held(model, "/nope", "x" * 5000, "short", "/quit", max_tokens=9)
    assert "/nope is no command" in shown
    assert "/clear begins anew" in " ".join(shown.split())
    assert "Hello there." in shown


def test_without_a_terminal_only_answers_are_written(model: ScriptedModel) -> None:
    model.answer = "<think>Hm.</think>a *b*"
    assert held(model, "one", "two", is_terminal=False) == "a *b*\na *b*\n"


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(model: ScriptedModel) -> None:
    model.answer = "one two three"
    original, count = AnswerView.add, [0]

    def add(view: AnswerView, part: Said | Thought) -> None:
        original(view, part)
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerView, "add", add)
        shown = held(model, "first", "second")
    assert "stopped" in shown
    assert "<|im_start|>assistant\none<|im_end|>" in model.tokenizer.decode(
        model.prompts[1], skip_special_tokens=False
    )


@pytest.mark.parametrize(
    ("text", "complete"),
    [("a", ""), ("a\n\nb", "a\n\n"), ("a\n\nb\n\n", "a\n\nb\n\n"), ("a\n\n```\nx\n\ny", "a\n\n"), ("", "")],
)
def test_paragraphs_are_printed_once_they_are_complete(text: str, complete: str) -> None:
    assert text[: chat_view._complete(text)] == complete


def test_a_long_answer_is_shown_whole_and_once(model: ScriptedModel) -> None:
    model.answer = "\n\n".join(f"paragraph{number:03} is here" for number in range(80))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, height=10, color_system=None)
    with AnswerView(console) as view:
        for start in range(0, len(model.answer), 7):
            view.add(Said(model.answer[start : start + 7]))
    printed = screen.getvalue().split("paragraph")
    assert all(f"paragraph{number:03} is here" in screen.getvalue() for number in range(80))
    # Only the last paragraph is drawn again, not all of them each time.
    assert len(printed) < 80 * 8


def test_the_command(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").write_text(SOURCE)
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n"))
    arguments = ["chat", "--model", str(tmp_path), "--max-tokens", "5", "--temperature", "0"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


def test_a_model_without_a_template(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(checkpoint)]) == 1
    assert "no chat template" in capsys.readouterr().err
