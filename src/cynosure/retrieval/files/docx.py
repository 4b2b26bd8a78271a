"""Take the text out of a DOCX and mark it by its headings. Knows nothing of where files lie."""

from __future__ import annotations

import re
from pathlib import Path

from cynosure.core.errors import InputError
from cynosure.retrieval.files.bounded_reader import ReadingLimits, read_bounded
from cynosure.retrieval.files.marks import Extract, Mark, path_of

_WORKER = Path(__file__).with_name("docx_worker.py")

_ZIP = b"PK\x03\x04"
#: What Word wraps an encrypted document in, and the format before DOCX.
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: A character reference may name what no UTF-8 holds.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def read_docx(name: str, content: bytes, limits: ReadingLimits | None = None) -> Extract:
    """The text as a reader sees it, paragraphs apart by a blank line, a heading above its own.

    Raises:
        InputError: it is no DOCX, is encrypted or damaged, holds no text, or runs over a limit.
    """
    if content.startswith(_OLE):
        raise InputError(
            f"{name} is an encrypted DOCX, or an old DOC. Save it as DOCX without a password, "
            "or leave it out."
        )
    if not content.startswith(_ZIP):
        raise InputError(
            f"{name} is no DOCX: it does not begin as a ZIP. Call it by the format that it has, "
            "or leave it out."
        )
    blocks = read_bounded(_WORKER, name, content, limits or ReadingLimits())["blocks"]
    parts: list[str] = []
    marks = [Mark(0, "", "section")]
    above: list[tuple[int, str]] = []
    length = 0
    joins = was_row = False
    for level, block, is_row in blocks:
        text = _UNWRITABLE.sub("\ufffd", block)
        # Paragraphs stand apart; rows of a table do not, nor does a heading from what it is of: alone, it
        # would be the passage that is closest to a question, and answer nothing.
        between = "" if not parts else "\n" if joins or (is_row and was_row) else "\n\n"
        length += len(between)
        if level is not None:
            above = [one for one in above if one[0] < level] + [(level, text)]
            marks.append(Mark(length, path_of([heading for _, heading in above]), "section"))
        parts += (between, text)
        length += len(text)
        joins, was_row = level is not None, is_row
    if not parts:
        raise InputError(f"{name} holds no text: it may be pictures. Save these as text, or leave it out.")
    return Extract("".join(parts), tuple(marks))
