"""Test that calls are found, however the text is cut; the rest stays text. Knows nothing of models."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.models.chat.tool_calls import ToolCall, ToolCallReader, ToolFormat, format_of
from tests.models.real_templates import CHATML, GEMMA

HERMES, LLAMA3, MISTRAL = ToolFormat.HERMES, ToolFormat.LLAMA3, ToolFormat.MISTRAL
NAMES = ("look", "sum")
ONE = '{"name": "look", "arguments": {"at": "☆ </tool_call> }]\\"", "n": 1}}'
AT = {"at": '☆ </tool_call> }]"', "n": 1}
TWO = '{"name": "sum", "parameters": {}}'


def read(format: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, object]]]:
    """The text in all, and the calls with their arguments."""
    reader = ToolCallReader(format, NAMES)
    found = [item for piece in pieces for item in reader.push(piece)] + reader.finish()
    calls = [item for item in found if isinstance(item, ToolCall)]
    assert [call.index for call in calls] == list(range(reader.num_calls))
    assert len({call.id for call in calls}) == len(calls)
    text = "".join(item for item in found if isinstance(item, str))
    return text, [(call.name, json.loads(call.arguments)) for call in calls]


LOOK, SUM = ("look", AT), ("sum", {})
WHOLE: list[tuple[ToolFormat, str, str, list[tuple[str, object]]]] = [
    (HERMES, f"<tool_call>\n{ONE}\n</tool_call>", "", [LOOK]),
    (HERMES, f"Well. \n<tool_call>{ONE}</tool_call>\n<tool_call>{TWO}</tool_call>\n", "Well.", [LOOK, SUM]),
    (HERMES, f"<tool_call>{ONE}", "", [LOOK]),
    (HERMES, f"<tool_call>{ONE}</tool", "", [LOOK]),
    (HERMES, f"<tool_call>{ONE}</tool_call>\nDone.", "\nDone.", [LOOK]),
    (LLAMA3, ONE, "", [LOOK]),
    (LLAMA3, f"\n<|python_tag|>{ONE}; {TWO} ;", "", [LOOK, SUM]),
    (LLAMA3, f"{TWO}\n{ONE}", "", [SUM, LOOK]),
    (MISTRAL, f"[TOOL_CALLS] [{ONE}, {TWO}]", "", [LOOK, SUM]),
    (MISTRAL, f"Look: [TOOL_CALLS][{TWO}]\n", "Look:", [SUM]),
]
TEXTS: list[tuple[ToolFormat, str]] = [
    (HERMES, "nothing to call \n"),
    (HERMES, "a < b <tool"),
    (HERMES, "<tool_call>look()</tool_call>"),
    (HERMES, '<tool_call>{"name": "look"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "fly", "arguments": {}}</tool_call> and on'),
    (HERMES, '<tool_call>{"name": "look", "arguments": "x"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "look", "arguments": {"x": NaN}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "look", "arguments": {'),
    (HERMES, f"<tool_call>{ONE} and so on"),
    (HERMES, "<tool_call>"),
    (HERMES, "<tool_call>" + '{"name": "look", "arguments": {"a": ' + "[" * 9000 + "]" * 9000 + "}}"),
    (LLAMA3, '{"answer": 42}'),
    (LLAMA3, '{"name": "Bob", "parameters": {}}'),
    (LLAMA3, "{ a set }; {}"),
    (LLAMA3, f"As JSON: {TWO}"),
    (LLAMA3, "<|python_tag|>print(1)"),
    (LLAMA3, " ; "),
    (MISTRAL, f"[TOOL_CALLS]{ONE}"),
    (MISTRAL, f'[TOOL_CALLS][{ONE}, {{"name": "fly"}}]'),
    (MISTRAL, "[TOOL_CALLS][]"),
    (MISTRAL, "[TOOL"),
    (MISTRAL, ""),
]
CASES = [*WHOLE, *((format, text, text, []) for format, text in TEXTS)]


@pytest.mark.parametrize(("format", "text", "said", "calls"), CASES)
def test_whole_and_letter_by_letter(
    format: ToolFormat, text: str, said: str, calls: list[tuple[str, object]]
) -> None:
    assert read(format, [text]) == (said, calls)
    assert read(format, [*text]) == (said, calls)


PIECES = ["<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "<tool", "[", "]", "{", "}"]
PARTS = st.sampled_from([*PIECES, ";", " ", "\n", "a", "<", '"', "\\", ONE, TWO])


@given(
    st.sampled_from([*ToolFormat]),
    st.lists(PARTS, max_size=8).map("".join),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_any_cut_gives_the_same(format: ToolFormat, text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert read(format, [text[start:end] for start, end in pairwise(places)]) == read(format, [text])


@given(st.sampled_from([*ToolFormat]), st.lists(PARTS, max_size=8).map("".join))
def test_without_calls_the_text_is_whole(format: ToolFormat, text: str) -> None:
    said, calls = read(format, [text])
    assert calls or said == text


def test_text_is_not_held_longer_than_needed() -> None:
    reader = ToolCallReader(HERMES, NAMES)
    assert reader.push("one <") == ["one"]
    assert reader.push("b> two") == [" <b> two"]
    assert reader.push(" <tool_call>" + ONE) == []
    [call] = reader.push("</tool_call>")
    assert isinstance(call, ToolCall)


def test_mistral_takes_ids_of_nine_letters() -> None:
    [call] = ToolCallReader(MISTRAL, NAMES).push(f"[TOOL_CALLS][{TWO}]")
    assert isinstance(call, ToolCall)
    assert len(call.id) == 9
    assert call.id.isalnum()


def test_long_arguments_are_read_once() -> None:
    begun = time.perf_counter()
    value = "{x}" * 8_000
    text, calls = read(
        HERMES, [*f'<tool_call>{{"name": "sum", "arguments": {{"a": "{value}"}}}}</tool_call>']
    )
    assert (text, calls) == ("", [("sum", {"a": value})])
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (CHATML, HERMES),
        (GEMMA, None),
        ('<|start_header_id|> Respond in the format {"name": x, "parameters": y}', LLAMA3),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", MISTRAL),
        ("", None),
    ],
)
def test_the_template_tells_the_format(template: str, format: ToolFormat | None) -> None:
    assert format_of(template) is format
