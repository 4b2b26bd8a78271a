"""Test that parts are slices that cover a text, and that they end where a reader stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.retrieval.sentences import sentences, widened

DOC = """Merge inputs, e.g. Two lists.  Similar to sorted().

    >>> list(merge([1], [2]))
    [1, 2]. Done
- first item. Still first.
- second item"""


def _texts(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def test_sentences_examples_and_items() -> None:
    assert _texts(DOC) == [
        "Merge inputs, e.g. Two lists.",
        "Similar to sorted().",
        ">>> list(merge([1], [2]))\n    [1, 2]. Done\n- first item. Still first.\n- second item",
    ]
    assert _texts("Take:\n- one. Or\n  two\n- three") == ["Take:", "- one.", "Or\n  two", "- three"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n ", []),
        ("no stop", ["no stop"]),
        ("One. two. Three", ["One. two.", "Three"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("Use x.y. *Key* is a name. 3 more.", ["Use x.y.", "*Key* is a name.", "3 more."]),
        ("炉を温める。230度で焼く。", ["炉を温める。", "230度で焼く。"]),
        ("One.\n\nTwo.", ["One.", "Two."]),
        ("What? Yes!\nNo.", ["What?", "Yes!", "No."]),
    ],
)
def test_where_parts_end(text: str, parts: list[str]) -> None:
    assert _texts(text) == parts


@given(st.text(alphabet="aB1 .!?\n->*`。🙂", max_size=80))
def test_parts_cover_all_but_white_space(text: str) -> None:
    spans = sentences(text)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(text[start:end] and not text[start].isspace() for start, end in spans)
    assert "".join("".join(part.split()) for part in _texts(text)) == "".join(text.split())


def test_parts_of_a_slice_count_in_the_whole() -> None:
    text = "Zero. One. Two. Three."
    assert [text[start:end] for start, end in sentences(text, (6, 15))] == ["One.", "Two."]


@pytest.mark.parametrize(
    ("place", "max_chars", "quoted"),
    [
        (1, 0, "Two."),
        (1, 4, "Two."),
        (1, 11, "Two. Three."),
        (1, 15, "Two. Three."),
        (1, 16, "One. Two. Three."),
        (2, 11, "Two. Three."),
        (0, 9, "One. Two."),
        (0, 99, "One. Two. Three."),
    ],
)
def test_a_part_is_widened_to_what_follows_first(place: int, max_chars: int, quoted: str) -> None:
    text = "One. Two. Three."
    start, end = widened(sentences(text), place, lambda span: span[1] - span[0] <= max_chars)
    assert text[start:end] == quoted
