"""Take the text out of a PDF and mark it by its pages. Knows nothing of where files lie.

Text is what the pages' own instructions write, as pypdf reads them; pictures of text are not recognised.
"""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

from cynosure.core.errors import InputError, MissingPackage
from cynosure.retrieval.files.bounded_reader import ReadingLimits, read_bounded
from cynosure.retrieval.files.marks import Extract, Mark

_WORKER = Path(__file__).with_name("pdf_worker.py")

#: Readers look for the header this far.
_HEADER_BYTES = 1024
#: What a broken map of a font's characters yields, and UTF-8 or a database can't hold.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def is_pdf(content: bytes) -> bool:
    """Whether a PDF's header stands where it must."""
    return b"%PDF-" in content[:_HEADER_BYTES]


def read_pdf(name: str, content: bytes, limits: ReadingLimits | None = None) -> Extract:
    """The text of the pages, with a blank line between them, and a mark at each page that has any.

    Pages are counted from 1, whatever is printed on them.

    Raises:
        InputError: it is no PDF, is encrypted or damaged, holds no text, or runs over a limit.
        MissingPackage: pypdf is not installed.
    """
    if not is_pdf(content):
        raise InputError(
            f"{name} is no PDF: it has no header `%PDF-`. Call it by the format that it has, or leave it out."
        )
    if util.find_spec("pypdf") is None:
        raise MissingPackage(
            f"{name} can't be read: PDF needs the package pypdf, which is not installed. "
            "Run `pip install 'cynosure[retrieval]'`."
        )
    pages = read_bounded(_WORKER, name, content, limits or ReadingLimits())["pages"]
    parts: list[str] = []
    marks: list[Mark] = []
    length = 0
    for number, page in enumerate(pages, 1):
        text = _UNWRITABLE.sub("\ufffd", page).strip()
        if not text:
            continue
        marks.append(Mark(length, f"page {number}", "page"))
        parts.append(f"{text}\n\n")
        length += len(text) + 2
    if not parts:
        raise InputError(
            f"{name} holds no text in its {len(pages)} pages: it may be scanned. "
            "Let text be recognised, such as by `ocrmypdf IN.pdf OUT.pdf`, or leave it out."
        )
    return Extract("".join(parts), tuple(marks))
