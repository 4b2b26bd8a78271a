from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.cli.editor.source_lines import SourceLines, in_one_break, original_offset

TEXTS = st.text(st.sampled_from("a🙂\r\n\f\u2028 "), max_size=30)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n", ["a", ""]),
        ("a\r\nb\rc\n", ["a", "b", "c", ""]),
        ("a\fb\u2028c\x85d", ["a\fb\u2028c\x85d"]),
    ],
)
def test_lines_end_where_editors_say(text: str, lines: list[str]) -> None:
    found = SourceLines(text)
    assert [found.line(number) for number in range(len(found))] == lines


def test_an_offset_within_a_break_is_before_it() -> None:
    lines = SourceLines("ab\r\ncd")
    assert [lines.place_of(offset) for offset in range(7)] == [
        (0, 0), (0, 1), (0, 2), (0, 2), (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip


@given(TEXTS)
def test_places_lead_back(text: str) -> None:
    lines = SourceLines(text)
    for offset in range(len(text) + 1):
        number, column = lines.place_of(offset)
        is_within_break = text[offset - 1 : offset + 1] == "\r\n" and offset > 0
        assert lines.starts[number] + column == offset - is_within_break


@given(TEXTS)
def test_offsets_survive_one_break(text: str) -> None:
    plain = in_one_break(text)
    for offset in range(len(plain) + 1):
        assert in_one_break(text[: original_offset(text, offset)]) == plain[:offset]
