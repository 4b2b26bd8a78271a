"""Test what is marked in each format, and what is refused."""

from __future__ import annotations

import pytest

from cynosure.core.errors import InputError
from cynosure.retrieval.files.formats import is_read, read_text
from cynosure.retrieval.files.marks import entries_of


def _parts(name: str, text: str) -> list[tuple[str, str, str]]:
    entries = entries_of(name, read_text(name, text.encode()))
    return [(one.name.removeprefix(name), one.kind, one.doc) for one in entries]


def test_plain_text_is_one_part_with_its_line_ends() -> None:
    assert _parts("a.txt", "one\r\n\r\ntwo\r\n") == [("", "text", "one\r\n\r\ntwo")]
    assert _parts("a.txt", " \n") == []


def test_a_byte_order_mark_is_no_text() -> None:
    assert read_text("a.txt", b"\xef\xbb\xbfone").text == "one"


@pytest.mark.parametrize("name", ["a.doc", "A.ODT", "Makefile", "a.exe"])
def test_other_formats_are_refused(name: str) -> None:
    assert not is_read(name)
    with pytest.raises(InputError, match="not read"):
        read_text(name, b"")
    assert is_read("README.MD")
    assert is_read("A.DOCX")
    assert is_read("a.PDF")
