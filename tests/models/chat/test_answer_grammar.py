"""Test that a grammar takes the answers it should and no others, as its compiler reads it."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import pytest
from tokenizers import AddedToken

from cynosure.engine import constraints
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar.grammar import load_llguidance, native_text
from cynosure.models.chat.answer_grammar import AnswerGrammar, Thinking
from cynosure.models.chat.tool_calls import ToolCall, ToolCallReader, ToolFormat
from cynosure.models.chat.tool_offer import Tool, ToolChoice, ToolOffer
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.tiny_tokenizers import byte_level, write

HERMES, LLAMA3, MISTRAL = ToolFormat.HERMES, ToolFormat.LLAMA3, ToolFormat.MISTRAL
LOOK = Tool(
    "look",
    {},
    {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/place"}},
        "required": ["at"],
        "additionalProperties": False,
        "$defs": {"place": {"type": "string", "maxLength": 9}},
    },
    is_strict=True,
)
SUM = Tool("sum", {}, None)
MANY, ONE = ToolOffer.of([LOOK, SUM]), ToolOffer.of([LOOK, SUM], may_call_many=False)
MUST = ToolOffer.of([LOOK, SUM], choice=ToolChoice.REQUIRED)
NAMED = ToolOffer.of([LOOK, SUM], named="sum")
NOTHING = ToolOffer()


def hermes(name: str, arguments: object) -> str:
    return (
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"
    )


def llama(name: str, arguments: object) -> str:
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


def mistral(*calls: tuple[str, object]) -> str:
    found = [{"name": name, "arguments": values} for name, values in calls]
    return "[TOOL_CALLS]" + json.dumps(found, ensure_ascii=False)


@functools.cache
def tokenizer_with(has_marks: bool) -> Tokenizer:
    """A vocabulary with each mark as one token, as real ones have; or without any."""
    raw = byte_level()
    if has_marks:
        marks = ["</think>", "<tool_call>", "</tool_call>"]
        raw.add_tokens([AddedToken(mark, normalized=False) for mark in marks])
        raw.add_special_tokens(["[TOOL_CALLS]", "<|python_tag|>"])
    return Tokenizer.from_folder(write(Path(tempfile.mkdtemp()), raw))


def takes(constraint: Constraint, text: str, has_marks: bool) -> bool:
    """Whether an answer may be this text, from its first token to its last."""
    tokenizer, library = tokenizer_with(has_marks), load_llguidance()
    native = library.LLTokenizer(tokenizer.definition, n_vocab=tokenizer.vocab_size, eos_token=[0])
    matcher = library.LLMatcher(native, native_text(constraint), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = tokenizer.encode(text, allow_special=True).ids
    return matcher.consume_tokens(list(ids)) and matcher.is_accepting()


def grammar(
    format: ToolFormat | None,
    offer: ToolOffer,
    has_marks: bool,
    thinking: Thinking = Thinking.NONE,
    form: Constraint | None = None,
) -> Constraint:
    lark = AnswerGrammar(tokenizer_with(has_marks), thinking, format, offer, form is not None).lark
    if form is None:
        return constraints.grammar(lark)
    return Constraint(form.kind, form.text, around=lark)


AT, WRONG = {"at": "☆"}, {"at": 1}
L, S, X = hermes("look", AT), hermes("sum", {"n": [1]}), hermes("look", WRONG)
CASES: list[tuple[ToolFormat, ToolOffer, str, bool]] = [
    (HERMES, MUST, L, True),
    (HERMES, MUST, f"{L}\n{S}", True),
    (HERMES, MUST, X, False),
    (HERMES, MUST, hermes("fly", {}), False),
    (HERMES, MUST, hermes("sum", 3), False),
    (HERMES, MUST, "Well.", False),
    (HERMES, MUST, "", False),
    (HERMES, MUST, f"{L} and", False),
    (HERMES, NAMED, S, True),
    (HERMES, NAMED, L, False),
    (HERMES, NAMED, f"{S}\n{S}", False),
    (HERMES, MANY, "Well, a < b.", True),
    (HERMES, MANY, "", True),
    (HERMES, MANY, f"See:\n{L}\n{S}\nDone.", True),
    (HERMES, MANY, f"See:\n{X}", False),
    (HERMES, MANY, "<tool_call>", False),
    (HERMES, ONE, "Well.", True),
    (HERMES, ONE, f"See: {L}", True),
    (HERMES, ONE, f"{L}\n{S}", False),
    (LLAMA3, MUST, llama("look", AT), True),
    (LLAMA3, MUST, llama("look", AT) + "; " + llama("sum", {}), True),
    (LLAMA3, MUST, llama("look", WRONG), False),
    (LLAMA3, MUST, "Well.", False),
    (LLAMA3, NAMED, llama("sum", {}), True),
    (LLAMA3, NAMED, llama("sum", {}) + "; " + llama("sum", {}), False),
    (LLAMA3, MANY, "Well {x}.", True),
    (LLAMA3, MANY, "", True),
    (LLAMA3, MANY, "<|python_tag|>" + llama("sum", {}), True),
    (LLAMA3, MANY, llama("look", WRONG), False),
    (LLAMA3, MANY, " {}", False),
    (MISTRAL, MUST, mistral(("look", AT), ("sum", {})), True),
    (MISTRAL, MUST, mistral(("look", WRONG)), False),
    (MISTRAL, MUST, "Well.", False),
    (MISTRAL, NAMED, mistral(("sum", {})), True),
    (MISTRAL, NAMED, mistral(("sum", {}), ("sum", {})), False),
    (MISTRAL, MANY, "Well [1].", True),
    (MISTRAL, MANY, "Well: " + mistral(("sum", {"a": "b"})), True),
    (MISTRAL, MANY, mistral(("look", WRONG)), False),
]


@pytest.mark.parametrize("has_marks", [True, False])
@pytest.mark.parametrize(("format", "offer", "text", "is_taken"), CASES)
def test_what_an_offer_takes(
    format: ToolFormat, offer: ToolOffer, text: str, is_taken: bool, has_marks: bool
) -> None:
    assert takes(grammar(format, offer, has_marks), text, has_marks) == is_taken
    if is_taken and offer.choice is ToolChoice.REQUIRED:
        # What is held to be a call is read as one.
        reader = ToolCallReader(format, offer.callable_names)
        found = reader.push(text) + reader.finish()
        assert found
        assert all(isinstance(item, ToolCall) for item in found), found


NUMBER = constraints.json_schema({"type": "integer"})


@pytest.mark.parametrize("has_marks", [True, False])
@pytest.mark.parametrize(
    ("thinking", "text", "is_taken"),
    [
        (Thinking.NONE, "12", True),
        (Thinking.NONE, "<think>no</think>12", False),
        (Thinking.POSSIBLE, "12", True),
        (Thinking.POSSIBLE, "<think>\nHm, 7.\n</think>\n\n12", True),
        (Thinking.POSSIBLE, "<think>12", False),
        (Thinking.POSSIBLE, "Hm.</think>12", False),
        (Thinking.OPEN, "Hm, 7.</think>12", True),
        (Thinking.OPEN, "12", False),
        (Thinking.OPEN, "Hm.</think>so", False),
    ],
)
def test_a_form_holds_after_the_reasoning(
    thinking: Thinking, text: str, is_taken: bool, has_marks: bool
) -> None:
    assert takes(grammar(None, NOTHING, has_marks, thinking, NUMBER), text, has_marks) == is_taken


@pytest.mark.parametrize(
    "form",
    [
        NUMBER,
        constraints.regex("[0-9]+"),
        constraints.choice(["12", "13"]),
        constraints.grammar("start: DIGIT+\nDIGIT: /[0-9]/"),
    ],
)
def test_forms_of_every_language_may_have_something_around_them(form: Constraint) -> None:
    held = grammar(HERMES, MANY, True, Thinking.POSSIBLE, form)
    assert takes(held, "12", True)
    assert takes(held, f"<think>a</think>{L}", True)
    assert not takes(held, "a", True)
    assert not takes(held, X, True)
