"""Parts of a prompt: each token in exactly one, each name with its tokens, sentences with their places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.insight.prompt_segments import PromptPart, PromptSegments

TEXT = "One. Two is here! Three?\nFour"


def part(name: str, text: str | None = None) -> PromptPart:
    return PromptPart(name, name, "user", text=text, start=0, end=None if text is None else len(text))


def by_character(text: str) -> PromptSegments:
    """A token a character, between two of the template."""
    owners = [None, *([0] * len(text)), None]
    offsets = [None, *((at, at + 1) for at in range(len(text))), None]
    return PromptSegments.of([part("doc", text)], owners, offsets)


def test_the_first_token_of_the_template_is_the_sink() -> None:
    found = PromptSegments.of([part("a"), part("b")], [None, None, 0, None, 1], [None] * 5)
    assert [found.parts[owner].id for owner in found.owners] == ["sink", "template", "a", "template", "b"]
    assert found.runs == ((0, 0, 1), (1, 1, 2), (2, 2, 3), (1, 3, 4), (3, 4, 5))
    assert found.names == ("a", "b")


def test_a_first_token_that_is_the_callers_is_no_sink() -> None:
    found = PromptSegments.of([part("a")], [0, 0], [None] * 2)
    assert found.runs == ((2, 0, 2),)


def test_a_name_may_stand_for_several_parts() -> None:
    twice = [part("a"), part("b"), PromptPart("a.1", "a", "user")]
    found = PromptSegments.of(twice, [None, 0, 1, 2, 0], [None] * 5)
    assert found.tokens_of("a") == ((1, 2), (3, 4), (4, 5))
    assert found.num_tokens == (1, 0, 2, 1, 1)
    for name in ("template", "sink", "c"):
        assert found.tokens_of(name) == ()


def test_sentences_keep_the_text_whole() -> None:
    found = by_character(TEXT).by_sentence(1, 100)
    cut = [one for one in found.parts if one.name == "doc"]
    assert [TEXT[one.start : one.end] for one in cut] == ["One. ", "Two is here! ", "Three?\n", "Four"]
    assert [one.id for one in cut] == ["doc#0", "doc#1", "doc#2", "doc#3"]
    for owner, offset in zip(found.owners, found.offsets, strict=True):
        if offset is not None:
            one = found.parts[owner]
            assert one.start is not None
            assert one.end is not None
            assert one.start <= offset[0] < one.end
    assert found.tokens_of("doc") == tuple(
        (start, end) for owner, start, end in found.runs if found.parts[owner].name == "doc"
    )


@pytest.mark.parametrize(("min_tokens", "max_parts"), [(len(TEXT) + 1, 100), (1, 5)])
def test_short_strings_and_too_many_sentences_stay_whole(min_tokens: int, max_parts: int) -> None:
    found = by_character(TEXT)
    assert found.by_sentence(min_tokens, max_parts) == found


def test_strings_of_other_roles_stay_whole() -> None:
    found = by_character(TEXT)
    assert found.by_sentence(1, 100, ["document"]) == found
    assert found.by_sentence(1, 100, ["document", "user"]) == found.by_sentence(1, 100)


@given(st.text(max_size=80), st.integers(0, 12))
def test_every_token_stays_in_one_part(text: str, max_parts: int) -> None:
    plain = by_character(text)
    found = plain.by_sentence(1, max_parts)
    assert len(found.owners) == len(text) + 2
    assert [found.parts[owner].name for owner in found.owners] == [
        plain.parts[owner].name for owner in plain.owners
    ]
    assert "".join(text[one.start : one.end] for one in found.parts if one.name == "doc") == text
    assert len(found.parts) <= max(max_parts, len(plain.parts))
