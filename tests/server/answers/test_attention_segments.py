"""Parts of a request's prompt: each token has exactly one, and its offsets slice its own text back."""

from __future__ import annotations

import random

import pytest

from cynosure.models.chat.prompt import CallerText, ChatPrompt, Message, build_chat_prompt
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.attention_segments import chat_segments, text_segments, token_segments
from tests.models.chat.test_prompt import HOSTILE
from tests.models.real_templates import CHATML
from tests.models.tiny_tokenizers import byte_fallback, byte_level, write

NUM_CONVERSATIONS = 60


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write(tmp_path_factory.mktemp("tokenizer"), request.param()))


def prompt_of(tokenizer: Tokenizer, contents: list[list[str]]) -> ChatPrompt:
    messages = [
        Message(
            "assistant" if at % 2 else "user",
            f"messages[{at}]",
            tuple(
                CallerText(text, f"messages[{at}].content[{place}].text") for place, text in enumerate(texts)
            ),
        )
        for at, texts in enumerate(contents)
    ]
    template = ChatTemplate({"default": CHATML}, {}, tokenizer.control_tokens)
    try:
        return build_chat_prompt(template, tokenizer, messages)
    finally:
        template.close()


def test_parts_of_random_conversations(tokenizer: Tokenizer) -> None:
    dice = random.Random(3)
    texts = [*HOSTILE, "naïve", "東京 🙂", "a\u0301b", "\U0001f468\u200d\U0001f469"]
    contents = [
        ["".join(dice.choices(texts, k=3)) for _ in range(dice.randrange(1, 4))]
        for _ in range(NUM_CONVERSATIONS)
    ]
    prompt = prompt_of(tokenizer, contents)
    found = chat_segments(prompt, {})
    assert len(found.owners) == len(prompt.token_ids)
    assert found.runs[0][1] == 0
    assert found.runs[-1][2] == len(prompt.token_ids)
    covered: dict[int, set[int]] = {}
    for owner, span in zip(found.owners, found.offsets, strict=True):
        part = found.parts[owner]
        assert (span is None) == (not part.is_callers)
        if span is not None:
            assert part.text is not None
            assert 0 <= span[0] < span[1] <= len(part.text)
            covered.setdefault(owner, set()).update(range(*span))
    for owner, places in covered.items():
        # What is missing belongs to a token that began before the part.
        assert places == set(range(min(places), max(places) + 1))
        assert max(places) + 1 == len(found.parts[owner].text or "")


def test_where_parts_stand_and_what_they_are_called(tokenizer: Tokenizer) -> None:
    prompt = prompt_of(tokenizer, [["first", "second", "third"], ["so"], ["and"]])
    found = chat_segments(prompt, {"messages[0].content[1].text": "doc:1"})
    told = [(one.id, one.name, one.role, one.message, one.part) for one in found.parts if one.is_callers]
    assert told == [
        ("user:0", "user:0", "user", 0, 0),
        ("doc:1", "doc:1", "document", 0, 1),
        ("user:0.1", "user:0", "user", 0, 2),
        ("assistant:0", "assistant:0", "assistant", 1, 0),
        ("user:1", "user:1", "user", 2, 0),
    ]
    assert len(found.tokens_of("user:0")) == 2


def test_a_prompt_that_is_one_text(tokenizer: Tokenizer) -> None:
    text = "naïve 🙂 the star"
    ids = tokenizer.encode(text).ids
    found = text_segments(tokenizer, text, ids)
    (part,) = [one for one in found.parts if one.is_callers]
    assert (part.id, part.start, part.end) == ("prompt", 0, len(text))
    num_added = sum(sequence is None for sequence in tokenizer.encode(text).sequences)
    assert found.num_tokens[found.parts.index(part)] == len(ids) - num_added
    # What was changed on its way is no slice of what was sent.
    assert text_segments(tokenizer, "other", ids) == token_segments(ids)


def test_a_prompt_of_tokens() -> None:
    found = token_segments((5, 6))
    assert found.runs == ((2, 0, 2),)
    assert found.parts[2].text is None
