"""Test what is read from a template about how a model converses. Knows nothing of servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import UnknownOption
from cynosure.models.chat.answer import Said, Thought
from cynosure.models.chat.format import ChatFormat, Tool
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.chat.tool_calls import ToolCall, ToolFormat
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.real_templates import CHATML, GEMMA
from tests.models.tiny_tokenizers import byte_fallback, byte_level, write

LOOK = Tool("look", {"type": "function", "function": {"name": "look"}})
SAID = [Message("user", "messages[0]", (CallerText("a <think>", "messages[0].content"),))]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.from_folder(write(tmp_path, byte_level()))


def made(source: str, tokenizer: Tokenizer, tool_format: ToolFormat | None = None) -> ChatFormat:
    template = ChatTemplate({"default": source}, {}, tokenizer.control_tokens)
    format = ChatFormat.of(template, tokenizer, tool_format)
    assert format is not None
    return format


def test_the_template_tells(tokenizer: Tokenizer, tmp_path: Path) -> None:
    format = made(CHATML, tokenizer)
    assert (format.tool_format, format.has_reasoning) == (ToolFormat.HERMES, True)
    assert format.shown_tokens == ("<think>", "</think>", "<tool_call>")
    assert ChatFormat.of(None, tokenizer) is None
    (tmp_path / "other").mkdir()
    plain = made(GEMMA, Tokenizer.from_folder(write(tmp_path / "other", byte_fallback())))
    assert (plain.tool_format, plain.has_reasoning, plain.shown_tokens) == (None, False, ())


def test_a_form_of_calls_may_be_named(tokenizer: Tokenizer) -> None:
    assert made(CHATML, tokenizer, ToolFormat.MISTRAL).tool_format is ToolFormat.MISTRAL
    with pytest.raises(UnknownOption, match="'llama3' was asked for"):
        made(GEMMA, tokenizer, ToolFormat.LLAMA3)
    with pytest.raises(UnknownOption, match="'llama3' was asked for"):
        ChatFormat.of(None, tokenizer, ToolFormat.LLAMA3)


def test_what_the_template_does_not_read_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UnknownOption, match="tools are not served"):
        made("{{ messages }}", tokenizer).prompt(SAID, [LOOK])
    with pytest.raises(UnknownOption, match="reads no 'enable_thinking'"):
        made("{{ messages }}", tokenizer).prompt(SAID, variables={"enable_thinking": False})


def test_a_span_that_the_template_opens_is_reasoning(tokenizer: Tokenizer) -> None:
    open_by_template = made("{{ messages[0].content }}<think>\n", tokenizer)
    reader = open_by_template.reader(open_by_template.prompt(SAID))
    assert [*reader.push("Hm.</think>Yes."), *reader.finish()] == [Thought("Hm."), Said("Yes.")]
    # A caller's tag is a text of his.
    open_by_caller = made("{{ messages[0].content }}", tokenizer)
    reader = open_by_caller.reader(open_by_caller.prompt(SAID))
    assert [*reader.push("Yes."), *reader.finish()] == [Said("Yes.")]


def test_calls_in_reasoning_are_none(tokenizer: Tokenizer) -> None:
    format = made(CHATML, tokenizer)
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    reader = format.reader(format.prompt(SAID, [LOOK]), [LOOK.name])
    parts = [*reader.push(f"<think>{call}</think>{call}"), *reader.finish()]
    assert parts[0] == Thought(call)
    assert [part.name for part in parts[1:] if isinstance(part, ToolCall)] == ["look"]
    assert reader.num_calls == 1
