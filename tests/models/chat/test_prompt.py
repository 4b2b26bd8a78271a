"""Test that every token of a rendered chat is known by its origin. Knows nothing of servers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tokenizers import processors

from cynosure.models.chat.prompt import CallerText, ChatPrompt, Message, build_chat_prompt
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.real_templates import CHATML, REAL
from tests.models.tiny_tokenizers import byte_fallback, byte_level, write

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
KINDS = {"byte_level": byte_level, "byte_fallback": byte_fallback}
#: Texts that look like a template's own.
HOSTILE = [
    "",
    " ",
    "\n",
    "user",
    "assistant\n",
    "<|im_end|>",
    "<|im_start|>system\n",
    "</s>",
    "[INST]",
    "the",
]
HOSTILE += ["<think>", "Today Date: ", "model", "<|", "|>", "\ufdd0", "\ufde0", "e\u0301", "🙂", "{{ x }}"]
NUM_CONVERSATIONS = 120


def conversations(seed: int) -> Iterator[list[str]]:
    """Hostile texts beside any Unicode, four messages at most; 3,000 messages over all that use them."""
    dice = random.Random(seed)

    def piece() -> str:
        if dice.random() < 0.5:
            return dice.choice(HOSTILE)
        # No surrogates: they are no characters.
        points = [dice.choice([dice.randrange(32, 0x250), dice.randrange(0xE000, 0x1FFFF)]) for _ in range(4)]
        return "".join(map(chr, points))

    for _ in range(NUM_CONVERSATIONS):
        yield ["".join(piece() for _ in range(dice.randrange(5))) for _ in range(dice.randrange(1, 5))]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write(tmp_path_factory.mktemp(request.param), KINDS[request.param]()))


@pytest.fixture(scope="module", params=REAL)
def template(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Iterator[ChatTemplate]:
    made = ChatTemplate({"default": REAL[request.param]}, NAMED, tokenizer.control_tokens)
    yield made
    made.close()


def turns(*contents: str) -> list[Message]:
    """A user and an assistant in turn."""
    return [
        Message(
            "assistant" if index % 2 else "user",
            f"messages[{index}]",
            (CallerText(content, f"messages[{index}].content"),),
        )
        for index, content in enumerate(contents)
    ]


def check(prompt: ChatPrompt) -> None:
    """Each token has one segment, and its offsets lie in the segment's text."""
    assert len(prompt.token_ids) == len(prompt.token_segments) == len(prompt.token_offsets)
    for number, offsets in zip(prompt.token_segments, prompt.token_offsets, strict=True):
        text = prompt.segments[number].text
        assert offsets is None or (text is not None and 0 <= offsets[0] <= offsets[1] <= len(text))


def read_back(prompt: ChatPrompt, number: int) -> str:
    """The characters of a segment's text that tokens point at, each once."""
    text = prompt.segments[number].text
    assert text is not None
    covered: set[int] = set()
    for owner, offsets in zip(prompt.token_segments, prompt.token_offsets, strict=True):
        if owner == number and offsets is not None:
            covered.update(range(*offsets))
    return "".join(text[place] for place in sorted(covered))


def test_offsets_give_back_what_the_caller_wrote(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    for contents in conversations(1):
        prompt = build_chat_prompt(template, tokenizer, turns(*contents))
        check(prompt)
        position = 0
        for number, content in enumerate(contents, start=1):
            trimmed = content.strip()
            found = read_back(prompt, number).strip()
            # The template may trim. A token that begins before the message is the template's.
            assert trimmed.endswith(found), contents
            assert len(found) == len(trimmed) or len(trimmed) - len(found) < 4, contents
            position = prompt.text.index(trimmed, position) + len(trimmed)
            places = [at for at, who in enumerate(prompt.token_segments) if who == number]
            # All tokens of one message stand together.
            assert not places or places == [*range(places[0], places[-1] + 1)], contents


def test_no_message_writes_a_control_token(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    def count(prompt: ChatPrompt) -> int:
        return sum(tokenizer.id_to_token(token) in tokenizer.control_tokens for token in prompt.token_ids)

    harmless = [count(build_chat_prompt(template, tokenizer, turns(*["x"] * num))) for num in range(1, 5)]
    for contents in conversations(2):
        prompt = build_chat_prompt(template, tokenizer, turns(*contents))
        assert count(prompt) == harmless[len(contents) - 1], contents


def test_equal_messages_are_told_apart(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    prompt = build_chat_prompt(template, tokenizer, turns("a star", "a star", "a star"))
    owners = [number for number in prompt.token_segments if number]
    assert owners == sorted(owners)
    assert set(owners) == {1, 2, 3}
    for number in (1, 2, 3):
        assert read_back(prompt, number).endswith(" star")


def test_the_template_s_own_words_are_its_own(tokenizer: Tokenizer) -> None:
    template = ChatTemplate({"default": CHATML}, NAMED, tokenizer.control_tokens)
    prompt = build_chat_prompt(template, tokenizer, turns("user", "assistant"))
    template.close()
    texts = prompt.text.split("user")
    assert len(texts) == 3
    assert read_back(prompt, 1) == "user"
    assert sum(number == 1 for number in prompt.token_segments) < len(prompt.token_ids) / 2


def render(source: str, messages: Sequence[Message], tokenizer: Tokenizer, **more: object) -> ChatPrompt:
    template = ChatTemplate({"default": source}, NAMED, tokenizer.control_tokens)
    try:
        return build_chat_prompt(template, tokenizer, messages, **more)  # pyright: ignore[reportArgumentType]
    finally:
        template.close()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{{ messages[0].content }}{{ messages[0].content }}", "a b c"),
        ("{% for m in messages | reverse %}[{{ m.content }}]{% endfor %}", "a b c"),
        ("{{ messages[0].content.split(' ')[-1] }}", "c"),
        ("{{ messages[0].content[2:] | trim }}.", "b c"),
        ("{% set x = messages[0].content ~ '!' %}{{ x | replace('b', 'X') }}", "a  c"),
        ("{% macro say(m) %}<{{ m.content }}>{% endmacro %}{{ say(messages[0]) }}", "a b c"),
        ("{{ '%s|%s' | format(messages[0].content, 1) }}", "a b c"),
        ("{{ 'x({}) y'.format(messages[0].content) }}", "a b c"),
        ("{{ messages | map(attribute='content') | join(', ') }}", "a b c"),
        ("{{ messages[0].content | tojson }}", "a b c"),
        ("{% filter trim %} {{ messages[0].content }} {% endfilter %}", "a b c"),
        ("{{ messages[0].content | upper }}", ""),
        ("dropped", ""),
    ],
)
def test_whatever_a_template_does(tokenizer: Tokenizer, source: str, found: str) -> None:
    prompt = render(source, turns("a b c", "other"), tokenizer)
    assert read_back(prompt, 1) == found
    if "upper" in source:
        # Changed, so that offsets would be wrong; still the caller's.
        assert 1 in prompt.token_segments


def test_a_straddling_token_belongs_to_its_first_byte(tokenizer: Tokenizer) -> None:
    if tokenizer.token_to_id("Ġthe") is None:
        return
    ours = render("x {{ messages[0].content }}", turns("the"), tokenizer)
    theirs = render("x{{ messages[0].content }}", turns(" the"), tokenizer)
    assert ours.token_ids == theirs.token_ids
    assert (ours.token_segments[-1], ours.token_offsets[-1]) == (0, None)
    assert (theirs.token_segments[-1], theirs.token_offsets[-1]) == (1, (0, 4))


def test_spaces_that_a_tokenizer_trims_count(tmp_path: Path) -> None:
    raw = byte_level()
    with_trim = byte_level()
    with_trim.post_processor = processors.ByteLevel(trim_offsets=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, trimming = (
        Tokenizer.from_folder(write(tmp_path / name, made)) for name, made in (("a", raw), ("b", with_trim))
    )
    texts = turns(" the  star ", "the eyes")
    assert render(CHATML, texts, trimming).token_offsets == render(CHATML, texts, plain).token_offsets


def test_parts_keep_their_own_places(tokenizer: Tokenizer) -> None:
    parts = (
        CallerText("one", "messages[0].content[0].text"),
        CallerText("two", "messages[0].content[1].text"),
    )
    prompt = render(CHATML, [Message("user", "messages[0]", parts)], tokenizer)
    assert [(segment.name, segment.path) for segment in prompt.segments[1:]] == [
        ("user:0", "messages[0].content[0].text"),
        ("user:0", "messages[0].content[1].text"),
    ]
    assert (read_back(prompt, 1), read_back(prompt, 2)) == ("one", "two")
    joint = prompt.text.index("one\ntwo") + 3
    assert prompt.text[joint] == "\n"


def test_two_parts_form_no_control_token(tokenizer: Tokenizer) -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    end = next(token for token in sorted(tokenizer.control_tokens) if len(token) > 3)
    prompt = render(source, turns(end[:2], end[2:]), tokenizer)
    assert prompt.text == end
    assert tokenizer.token_to_id(end) not in prompt.token_ids
    # The positive control: from the template it is one token.
    assert tokenizer.token_to_id(end) in render(end, turns("x"), tokenizer).token_ids


def test_tools_calls_and_reasoning_have_segments(tokenizer: Tokenizer) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {"at": "star"}}}
    messages = [
        *turns("where"),
        Message(
            "assistant",
            "messages[1]",
            (CallerText("up", "messages[1].content"),),
            CallerText("Hm", "messages[1].reasoning_content"),
            (call,),
        ),
        Message("tool", "messages[2]", (CallerText("seen", "messages[2].content"),), tool_call_id="call_1"),
    ]
    tools = [{"type": "function", "function": {"name": "look", "description": "Look there."}}]
    source = CHATML + "{{ messages[2].name }}"
    prompt = render(source, messages, tokenizer, tools=tools, add_generation_prompt=False)
    names = [(segment.name, segment.path) for segment in prompt.segments]
    assert names == [
        ("template", ""),
        ("tools", "tools"),
        ("user:0", "messages[0].content"),
        ("assistant:0", "messages[1].reasoning_content"),
        ("assistant:0", "messages[1].content"),
        ("assistant:0", "messages[1]"),
        ("tool:0", "messages[2].content"),
        ("tool:0", "messages[2]"),
    ]
    assert [read_back(prompt, number) for number in (2, 3, 4, 6)] == ["where", "Hm", "up", "seen"]
    owned = {number: [] for number in range(len(names))}
    for token_id, number in zip(prompt.token_ids, prompt.token_segments, strict=True):
        owned[number].append(token_id)
    assert "Look there." in tokenizer.decode(owned[1])
    assert "star" in tokenizer.decode(owned[5])
    assert "look" in tokenizer.decode(owned[7])
