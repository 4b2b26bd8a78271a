from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.editor import place as module
from cynosure.cli.editor.place import Place, place_in
from cynosure.core.errors import InputError, InputTooLong, NotFound


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a.py:3", Place(Path("a.py"), 3)),
        ("src/a.py:3:14", Place(Path("src/a.py"), 3, 14)),
        ("a:b.py:3", Place(Path("a:b.py"), 3)),
        ("the centre of", None),
        ("see a.py:3", None),
        ("a.py:", None),
        ("a.py:x", None),
        (":3", None),
        ("-", None),
    ],
)
def test_what_is_a_place(text: str, place: Place | None) -> None:
    assert place_in(text) == place


def file_of(folder: Path, content: bytes) -> Path:
    (folder / "a.py").write_bytes(content)
    return folder / "a.py"


@pytest.mark.parametrize(
    ("content", "line", "column", "prefix"),
    [
        (b"ab\ncd\n", 1, None, "ab"),
        (b"ab\ncd\n", 2, 1, "ab\n"),
        (b"ab\ncd\n", 3, None, "ab\ncd\n"),
        (b"ab\ncd", 2, 3, "ab\ncd"),
        (b"", 1, 1, ""),
        (b"ab\r\ncd\r\n", 1, None, "ab"),
        (b"ab\r\ncd\r\n", 2, 2, "ab\nc"),
        ("x = '🙂'\ny".encode(), 1, 7, "x = '🙂"),
        (b"\xef\xbb\xbfab\n", 1, 2, "a"),
        (b"# coding: latin-1\n\xe9t\xe9\n", 2, 3, "# coding: latin-1\nét"),
        (b"\tif a:\n\t\tb\n", 2, 3, "\tif a:\n\t\t"),
        (b"a\fb\nc\n", 2, 2, "a\fb\nc"),
    ],
)
def test_a_place_parts_the_text(
    content: bytes, line: int, column: int | None, prefix: str, tmp_path: Path
) -> None:
    gap = Place(file_of(tmp_path, content), line, column).gap()
    assert gap.prefix == prefix
    assert gap.text[: gap.offset] + gap.text[gap.offset :] == gap.text


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        (0, None, "3 lines and no line 0"),
        (4, None, "3 lines and no line 4"),
        (1, 0, "column 0 is none of 1 to 3"),
        (1, 4, "column 4 is none of 1 to 3"),
    ],
)
def test_a_place_that_is_not_there_is_told(line: int, column: int | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        Place(file_of(tmp_path, b"ab\ncd\n"), line, column).gap()


def test_what_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"\xff\xfe\xfd", b"a\0b", b"# coding: nothing\n"):
        with pytest.raises(InputError, match="text"):
            Place(file_of(tmp_path, content), 1).gap()
    with pytest.raises(NotFound, match="no file"):
        Place(tmp_path / "absent.py", 1).gap()
    with pytest.raises(InputError, match="can't be read"):
        Place(tmp_path, 1).gap()
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
    with pytest.raises(InputTooLong, match="has 4 bytes; the limit is 3"):
        Place(file_of(tmp_path, b"abcd"), 1).gap()
