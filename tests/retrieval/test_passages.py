"""Test that passages are slices that fit, and that together they hold the whole docstring."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.core.errors import InputTooLong
from cynosure.retrieval.documents import Entry
from cynosure.retrieval.passages import cut, pack
from tests.retrieval.fakes import HEAP


def words(text: str) -> int:
    return len(text.split()) + 2


def characters(text: str) -> int:
    return len(text)


def entry(doc: str, name: str = "m.f") -> Entry:
    return Entry(name, "function", "m", "()", doc)


def test_one_paragraph_makes_one_passage() -> None:
    (passage,) = cut([entry("\n  Do it.  \n")], words, 32)
    assert passage.text("\n  Do it.  \n") == "m f: Do it."


def test_summary_comes_first_and_the_whole_after_it() -> None:
    summary, whole = cut([entry(HEAP)], words, 64)
    assert HEAP[summary.start : summary.end] == "Merge multiple sorted inputs into a single sorted output."
    assert HEAP[whole.start : whole.end] == HEAP


def test_paragraphs_stay_whole_where_they_fit() -> None:
    doc = "a b c\n\nd e f\n\ng h i"
    found = [doc[p.start : p.end] for p in cut([entry(doc)], words, 2 + 2 + 6)]
    assert found == ["a b c", "a b c\n\nd e f", "g h i"]


@given(st.text(alphabet="ab .\n🙂é", min_size=1, max_size=120).filter(str.strip), st.integers(6, 40))
def test_every_passage_fits_and_nothing_is_lost(doc: str, limit: int) -> None:
    passages = cut([entry(doc)], characters, limit)
    covered: set[int] = set()
    for passage in passages:
        assert len(passage.text(doc)) <= limit
        assert passage.text(doc).endswith(doc[passage.start : passage.end])
        covered |= set(range(passage.start, passage.end))
    assert covered >= {match.start() for match in re.finditer(r"\S", doc)}


def test_heading_without_room_is_an_error() -> None:
    with pytest.raises(InputTooLong, match="max_tokens"):
        list(pack("abc", (0, 3), lambda span: False))
