"""Test that thinking is split off, however the text is cut. Knows nothing of models."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.models.chat.reasoning import Piece, ReasoningSplit

TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "think", ">", "/", "a", " ", "\n", "<thi"]), max_size=12
).map("".join)


def read(pieces: list[str], is_inside: bool = False) -> tuple[str, str]:
    """All that was thought, and all that was said."""
    split = ReasoningSplit(is_inside)
    given_out = [piece for text in pieces for piece in split.push(text)] + split.finish()
    assert all(piece.text for piece in given_out)
    thought = "".join(piece.text for piece in given_out if piece.is_reasoning)
    return thought, "".join(piece.text for piece in given_out if not piece.is_reasoning)


@pytest.mark.parametrize(
    ("text", "is_inside", "thought", "said"),
    [
        ("plain", False, "", "plain"),
        ("<think>\nHm.\n</think>\n\nYes.", False, "Hm.", "Yes."),
        ("Hm.\n</think>\n\nYes.", True, "Hm.", "Yes."),
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
        ("a <think>b</think> c", False, "b", "a c"),
        ("<think>cut off ", False, "cut off", ""),
        ("a </think> b", False, "", "a </think> b"),
        ("a <thin", False, "", "a <thin"),
        ("<think>a < b</thin</think>c", False, "a < b</thin", "c"),
        (" plain ", False, "", " plain "),
        ("", True, "", ""),
    ],
)
def test_whole(text: str, is_inside: bool, thought: str, said: str) -> None:
    assert read([text], is_inside) == (thought, said)
    assert read([*text], is_inside) == (thought, said)


@given(TEXT, st.lists(st.integers(0, 60), max_size=6), st.booleans())
def test_any_cut_gives_the_same(text: str, cuts: list[int], is_inside: bool) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert read(pieces, is_inside) == read([text], is_inside)


def test_only_what_may_be_a_tag_is_held_back() -> None:
    split = ReasoningSplit()
    assert split.push("a <") == [Piece("a ", False)]
    assert split.push("b") == [Piece("<b", False)]
    assert split.push("<think>x ") == [Piece("x", True)]
    assert split.push("y</") == [Piece(" y", True)]
    assert split.is_inside
    assert split.push("think> z") == [Piece("z", False)]
    assert not split.is_inside
