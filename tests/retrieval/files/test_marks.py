"""Test that entries cover a text, in order, whatever the marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.core.errors import InputTooLong
from cynosure.retrieval.files.formats import read_text
from cynosure.retrieval.files.marks import MAX_NAME, MAX_SECTION, Extract, Mark, entries_of, path_of

_PARTS = st.sampled_from(
    ["# One\n", "## Two\n", "```\n", "a\n---\n", "def f(x):\n", "    return x\n", "class A:\n", "\n\n",
     "\r\n", "a,b\n", '"q\nq",1\n', "é🙂 ", "word " * 300, "x" * 2500, "<h1>T</h1>", "<p>", "@d\n"]
)  # fmt: skip
TEXTS = st.lists(_PARTS, max_size=12).map("".join)


@given(text=TEXTS, name=st.sampled_from(["a.md", "a.py", "a.csv", "a.tsv", "a.txt", "a.html", "a.rs"]))
def test_entries_are_slices_that_cover_the_text(text: str, name: str) -> None:
    extract = read_text(name, text.encode())
    if name != "a.html":
        assert extract.text == text
    entries = entries_of(name, extract)
    left = extract.text
    end = len(left)
    for entry in reversed(entries):
        assert 0 < len(entry.doc) <= MAX_SECTION
        assert entry.doc == extract.text[entry.start : entry.start + len(entry.doc)]
        assert entry.start + len(entry.doc) <= end
        end = entry.start
        left = left[: entry.start] + left[entry.start + len(entry.doc) :]
    assert not left.strip()
    assert len({entry.name for entry in entries}) == len(entries)
    assert all(len(entry.name) <= MAX_NAME for entry in entries)


@pytest.mark.parametrize("length", [0, 1, MAX_SECTION - 1, MAX_SECTION, MAX_SECTION + 1, 5 * MAX_SECTION])
def test_long_texts_are_cut(length: int) -> None:
    entries = entries_of("a.txt", Extract("x" * length, (Mark(0, "", "text"),)))
    assert "".join(entry.doc for entry in entries) == "x" * length
    assert len(entries) == -(-length // MAX_SECTION)


def test_names_of_namesakes_say_the_line() -> None:
    text = "one\ntwo\n"
    entries = entries_of("a.md", Extract(text, (Mark(0, "T", "section"), Mark(4, "T", "section"))))
    assert [entry.name for entry in entries] == ["a.md: T", "a.md: T (line 2)"]


def test_a_path_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InputTooLong, match="Index a folder further down"):
        entries_of("x/" * 100 + "a.md", Extract("one", (Mark(0, "", "text"),)))


def test_headings_are_whole_or_left_out() -> None:
    assert path_of(["One", "Two\n x"]) == "One > Two x"
    assert path_of(["y" * 200, "Two"]) == "Two"
    assert path_of(["y" * 200]) == ""
