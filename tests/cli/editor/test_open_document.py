from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.cli.editor.open_document import OpenDocument, Position
from cynosure.core.errors import UnknownOption

ENCODINGS = ("utf-8", "utf-16", "utf-32")
TEXTS = st.text(st.sampled_from("ab🙂é\r\n\f\u2028 "), max_size=20)


@pytest.mark.parametrize(("encoding", "units"), [("utf-8", 7), ("utf-16", 5), ("utf-32", 4)])
def test_units_are_those_of_the_encoding(encoding: str, units: int) -> None:
    document = OpenDocument('x="🙂"\n', encoding)
    assert document.offset_of(Position(0, units)) == 4
    assert document.position_of(4) == Position(0, units)


def test_within_a_character_is_its_start_and_behind_a_line_its_end() -> None:
    document = OpenDocument("🙂b\r\nc\n")
    assert [document.offset_of(Position(0, units)) for units in range(6)] == [0, 0, 1, 2, 2, 2]
    assert document.offset_of(Position(1, 9)) == 5
    assert document.offset_of(Position(9, 0)) == len(document.text)


@given(TEXTS, st.sampled_from(ENCODINGS))
def test_positions_lead_back(text: str, encoding: str) -> None:
    document = OpenDocument(text, encoding)
    for offset in range(len(text) + 1):
        if text[max(0, offset - 1) : offset + 1] != "\r\n":
            assert document.offset_of(document.position_of(offset)) == offset


@given(TEXTS, TEXTS, st.data())
def test_a_change_is_what_slicing_says(text: str, new: str, data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    document = OpenDocument(text)
    first, last = document.position_of(start), document.position_of(end)
    start, end = document.offset_of(first), document.offset_of(last)
    assert document.changed(first, last, new).text == text[:start] + new + text[end:]


def test_a_form_feed_begins_no_line() -> None:
    assert OpenDocument("a\fb\nc").changed(Position(1, 0), Position(1, 1), "d").text == "a\fb\nd"


def test_an_encoding_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownOption, match="utf-7"):
        OpenDocument("", "utf-7")
