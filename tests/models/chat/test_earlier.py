"""Tokens that were generated stand for their text, and only where the text is theirs. Knows no server."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cynosure.models.chat.earlier import Generated
from cynosure.models.chat.prompt import CallerText, ChatPrompt, Message, build_chat_prompt
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.real_templates import CHATML, MISTRAL, REAL
from tests.models.tiny_tokenizers import byte_fallback, byte_level, write

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
KINDS = {"byte_level": byte_level, "byte_fallback": byte_fallback}
NUM_CONVERSATIONS = 25


@dataclass(frozen=True)
class Once:
    """Tokens that were generated behind one text."""

    before: str
    ways: Sequence[Sequence[int]]

    def behind(self, text: str) -> list[Generated]:
        return [Generated(len(self.before), way) for way in self.ways] if text.startswith(self.before) else []


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write(tmp_path_factory.mktemp(request.param), KINDS[request.param]()))


@pytest.fixture(scope="module", params=REAL)
def template(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Iterator[ChatTemplate]:
    made = ChatTemplate({"default": REAL[request.param]}, NAMED, tokenizer.control_tokens)
    yield made
    made.close()


@pytest.fixture(scope="module")
def chatml(tokenizer: Tokenizer) -> Iterator[ChatTemplate]:
    made = ChatTemplate({"default": CHATML.replace("{{- ns.last }}\n", "")}, NAMED, tokenizer.control_tokens)
    yield made
    made.close()


def said(*contents: str) -> list[Message]:
    """A user and an assistant in turn."""
    return [
        Message(
            "assistant" if index % 2 else "user",
            f"messages[{index}]",
            (CallerText(content, f"messages[{index}].content"),),
        )
        for index, content in enumerate(contents)
    ]


def spelled(tokenizer: Tokenizer, token_ids: Sequence[int]) -> bytes:
    return b"".join(map(tokenizer.token_bytes, token_ids))


def ordinary(tokenizer: Tokenizer) -> list[int]:
    """Tokens that a model may choose and that spell something."""
    return [
        token_id
        for token_id in range(tokenizer.vocab_size)
        if not tokenizer.is_control(token_id) and tokenizer.token_bytes(token_id)
    ]


def letters(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text letter by letter, as no tokenizer spells it."""
    by_bytes = {tokenizer.token_bytes(token_id): token_id for token_id in reversed(ordinary(tokenizer))}
    return [by_bytes[bytes([byte])] for byte in text.encode()]


def check(prompt: ChatPrompt) -> None:
    """Each token has one segment, whose text holds its offsets; one message's tokens stand together."""
    assert len(prompt.token_ids) == len(prompt.token_segments) == len(prompt.token_offsets)
    for number, offsets in zip(prompt.token_segments, prompt.token_offsets, strict=True):
        text = prompt.segments[number].text
        assert offsets is None or (text is not None and 0 <= offsets[0] <= offsets[1] <= len(text))


def test_what_was_generated_stands_as_it_was_generated(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    first = build_chat_prompt(template, tokenizer, said("the star"))
    chosen = letters(tokenizer, "xthe centre of the star")
    # Some templates write a space before an answer, which the model then generates itself.
    answer = "xthe centre of the star"
    later = said("the star", answer, "and then?")
    plain = build_chat_prompt(template, tokenizer, later)
    space = plain.text[len(first.text) :].startswith(" ")
    chosen = letters(tokenizer, " " * space + answer)
    kept = build_chat_prompt(template, tokenizer, later, earlier=Once(first.text, [chosen]))
    assert kept.text == plain.text
    check(kept)
    if not plain.text.startswith(first.text):
        # Gemma's way of asking differs from its way of telling: nothing may be taken over.
        assert kept == plain
        return
    assert kept.token_ids[: len(first.token_ids) + len(chosen)] == (*first.token_ids, *chosen)
    assert kept.token_ids != plain.token_ids
    assert spelled(tokenizer, kept.token_ids) == spelled(tokenizer, plain.token_ids)
    offsets = [span for span, who in zip(kept.token_offsets, kept.token_segments, strict=True) if who == 2]
    assert [span for span in offsets if span] == [(at, at + 1) for at in range(len(answer))]


def test_whatever_was_generated_the_text_stays_the_text(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    dice = random.Random(0)
    vocabulary = ordinary(tokenizer)
    num_taken = 0
    told = build_chat_prompt(template, tokenizer, said("x", "y")).text
    # What some templates write between the opened turn and what is said in it.
    asked = build_chat_prompt(template, tokenizer, said("x")).text
    before = " " if told.startswith(f"{asked} ") else ""
    for _ in range(NUM_CONVERSATIONS):
        first = build_chat_prompt(template, tokenizer, said("Größe 東京?"))
        chosen = dice.choices(vocabulary, k=dice.randrange(1, 12))
        if dice.random() < 0.5:
            # Words and letters, with bytes of characters between them that are whole.
            words = [token_id for token_id in chosen if tokenizer.token_bytes(token_id).isascii()]
            chosen = [*letters(tokenizer, f"{before}éthe star"), *words]
        text = spelled(tokenizer, chosen).decode(errors="replace").removeprefix(before)
        cut = text[: dice.randrange(len(text) + 1)] if dice.random() < 0.5 else text
        later = said("Größe 東京?", cut, "the 🙂")
        plain = build_chat_prompt(template, tokenizer, later)
        kept = build_chat_prompt(template, tokenizer, later, earlier=Once(first.text, [chosen]))
        check(kept)
        assert kept.text == plain.text
        assert spelled(tokenizer, kept.token_ids) == spelled(tokenizer, plain.token_ids), (chosen, cut)
        assert set(kept.token_segments) == set(plain.token_segments)
        num_taken += kept.token_ids != plain.token_ids
    assert num_taken or not plain.text.startswith(first.text), "nothing was ever taken over"


def test_an_answer_that_was_cut_is_kept_up_to_the_cut(chatml: ChatTemplate, tokenizer: Tokenizer) -> None:
    first = build_chat_prompt(chatml, tokenizer, said("ask"))
    answer = "\nthe 🙂 star" if not first.text.endswith("\n") else "the 🙂 star"
    chosen = letters(tokenizer, answer)
    earlier = Once(first.text, [chosen])
    begin = len(first.token_ids)
    for length in range(1, len(answer) + 1):
        later = said("ask", answer[:length], "next")
        kept = build_chat_prompt(chatml, tokenizer, later, earlier=earlier)
        num_bytes = len(answer[:length].encode())
        assert kept.token_ids[begin : begin + num_bytes] == tuple(chosen[:num_bytes])
        assert kept.text == build_chat_prompt(chatml, tokenizer, later).text
    # A token that spells more than what is left of the answer is not taken apart.
    [the] = [token_id for token_id in ordinary(tokenizer) if tokenizer.token_bytes(token_id) == b"the"]
    kept = build_chat_prompt(chatml, tokenizer, said("ask", "xth", "next"), earlier=Once(first.text, [
        (*letters(tokenizer, "x"), the)
    ]))  # fmt: skip
    assert kept.token_ids[begin] == letters(tokenizer, "x")[0]
    assert the not in kept.token_ids[begin:]


@pytest.mark.parametrize("changed", ["the stir", "The star", "", "the star?", "a"])
def test_a_message_that_was_changed_is_read_from_its_text(
    chatml: ChatTemplate, tokenizer: Tokenizer, changed: str
) -> None:
    first = build_chat_prompt(chatml, tokenizer, said("ask"))
    later = said("ask", changed, "next")
    earlier = Once(first.text, [letters(tokenizer, "the star.")])
    assert build_chat_prompt(chatml, tokenizer, later, earlier=earlier) == build_chat_prompt(
        chatml, tokenizer, later
    )


def test_the_longest_of_several_answers_is_taken(chatml: ChatTemplate, tokenizer: Tokenizer) -> None:
    first = build_chat_prompt(chatml, tokenizer, said("ask"))
    ways = [letters(tokenizer, text) for text in ("th", "the star", "the moon")]
    kept = build_chat_prompt(chatml, tokenizer, said("ask", "the star", "?"), earlier=Once(first.text, ways))
    assert kept.token_ids[len(first.token_ids) :][: len(ways[1])] == tuple(ways[1])


def test_nobody_gets_a_control_token_into_his_text(tmp_path: Path) -> None:
    """A model that writes the end of a turn does not end one when its words come back."""
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    template = ChatTemplate(
        {"default": CHATML.replace("{{- ns.last }}\n", "")}, NAMED, tokenizer.control_tokens
    )
    first = build_chat_prompt(template, tokenizer, said("ask"))
    end = tokenizer.token_to_id("<|im_end|>")
    assert end is not None
    chosen = [*letters(tokenizer, "so "), end, *letters(tokenizer, "more")]
    later = said("ask", "so <|im_end|>more", "?")
    plain = build_chat_prompt(template, tokenizer, later)
    kept = build_chat_prompt(template, tokenizer, later, earlier=Once(first.text, [chosen]))
    assert kept.token_ids.count(end) == plain.token_ids.count(end) == 3
    # Positive control: the same tokens where the template ends the turn are the template's.
    ended = [*letters(tokenizer, "so"), end]
    kept = build_chat_prompt(template, tokenizer, said("ask", "so", "?"), earlier=Once(first.text, [ended]))
    assert kept.token_ids[len(first.token_ids) :][:3] == tuple(ended)
    assert kept.token_ids.count(end) == 3


def test_what_spells_a_control_token_does_not_stand_for_the_template_s(tmp_path: Path) -> None:
    """An answer that the client cut ends where the template goes on with a real end token."""
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    template = ChatTemplate(
        {"default": CHATML.replace("{{- ns.last }}\n", "")}, NAMED, tokenizer.control_tokens
    )
    first = build_chat_prompt(template, tokenizer, said("ask"))
    end = tokenizer.token_to_id("<|im_end|>")
    for length in range(1, len("<|im_end|>") + 1):
        chosen = letters(tokenizer, "so" + "<|im_end|>"[:length])
        kept = build_chat_prompt(
            template, tokenizer, said("ask", "so", "?"), earlier=Once(first.text, [chosen])
        )
        assert kept.token_ids.count(end) == 3
        assert kept.token_ids[len(first.token_ids) :][:2] == tuple(chosen[:2])


def test_without_a_hit_nothing_changes(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    later = said("the star", "yes", "and?")
    plain = build_chat_prompt(template, tokenizer, later)
    assert build_chat_prompt(template, tokenizer, later, earlier=Once("other", [[5]])) == plain
    assert MISTRAL in REAL.values()


def test_a_call_and_a_thought_are_kept_where_the_template_writes_them_alike(
    chatml: ChatTemplate, tokenizer: Tokenizer
) -> None:
    """What was generated runs through the template's own words and the caller's."""
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": {"at": "the star"}}}
    first = build_chat_prompt(chatml, tokenizer, said("ask"))
    answered = Message(
        "assistant",
        "messages[1]",
        reasoning=CallerText("hm, the star", "messages[1].reasoning_content"),
        tool_calls=(call,),
    )
    later = [
        *said("ask"),
        answered,
        Message("tool", "messages[2]", (CallerText("seen", "messages[2].content"),), tool_call_id="c"),
    ]
    plain = build_chat_prompt(chatml, tokenizer, later)
    whole = plain.text[len(first.text) :]
    end = whole.find("<|im_end|>")
    answer = whole[:end]
    assert "look" in answer
    assert "the star" in answer
    assert not tokenizer.control_spans(answer), "the template of this test writes none there"
    chosen = letters(tokenizer, answer)
    kept = build_chat_prompt(chatml, tokenizer, later, earlier=Once(first.text, [chosen]))
    assert kept.token_ids[len(first.token_ids) :][: len(chosen)] == tuple(chosen)
    assert kept.text == plain.text
    assert spelled(tokenizer, kept.token_ids) == spelled(tokenizer, plain.token_ids)
    assert set(kept.token_segments) == set(plain.token_segments)
