"""Take text out of a file by the format that its name says. Knows nothing of where files lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath

from cynosure.core.errors import InputError
from cynosure.retrieval.files.code import python_marks
from cynosure.retrieval.files.html import read_html
from cynosure.retrieval.files.markdown import markdown_marks
from cynosure.retrieval.files.marks import Extract, Mark
from cynosure.retrieval.files.table import read_table

_SOURCE = re.findall(
    r"\S+",
    """
    .bash .c .cc .cfg .cpp .cs .css .cu .cuh .go .h .hpp .hs .ini .java .jl .js .json .jsx .kt .lua .mjs .php
    .pl .pyi .r .rb .rs .scala .sh .sql .swift .tex .toml .ts .tsx .yaml .yml .zig
    """,
)
_MARKDOWN = (".md", ".markdown")
_HTML = (".html", ".htm", ".xhtml")
_TEXT = (".txt", ".text", ".rst", ".log", ".jsonl")

_READERS: Mapping[str, Callable[[str], Extract]] = {
    **dict.fromkeys(_MARKDOWN, lambda text: Extract(text, markdown_marks(text))),
    **dict.fromkeys(_HTML, read_html),
    **dict.fromkeys(_TEXT, lambda text: Extract(text, (Mark(0, "", "text"),))),
    **dict.fromkeys(_SOURCE, lambda text: Extract(text, (Mark(0, "", "code"),))),
    ".py": lambda text: Extract(text, python_marks(text)),
    ".csv": lambda text: read_table(text, ","),
    ".tsv": lambda text: read_table(text, "\t"),
}

#: Documents that hold text which is not read, and what helps.
_REFUSED: Mapping[str, str] = {
    ".pdf": "Save its text beside it: `pdftotext FILE.pdf FILE.txt` (an encrypted one needs its password)",
    ".docx": "Save it as HTML or text: `soffice --convert-to html FILE.docx`",
    ".doc": "Save it as HTML or text: `soffice --convert-to html FILE.doc`",
    ".odt": "Save it as HTML or text: `soffice --convert-to html FILE.odt`",
    ".epub": "Unpack it: its chapters are HTML",
    ".ipynb": "Save it as Markdown: `jupyter nbconvert --to markdown FILE.ipynb`",
}


def is_read(name: str) -> bool:
    """Whether files of this name are read."""
    return _suffix(name) in _READERS


def refusal(name: str) -> str:
    """Why files of this name are not read, and what helps."""
    suffix = _suffix(name)
    if suffix in _REFUSED:
        return f"{suffix[1:].upper()} is not read. {_REFUSED[suffix]}."
    what = f"files that end in {suffix} are" if suffix else "a file without an ending is"
    return f"{what} not read. Index Markdown, HTML, text, source code, CSV or logs."


def read_text(name: str, content: bytes) -> Extract:
    """The text of a file with its marks.

    Raises:
        InputError: the name's format is not read, or the content is binary or not UTF-8.
    """
    reader = _READERS.get(_suffix(name))
    if reader is None:
        raise InputError(f"{name}: {refusal(name)}")
    return reader(_decoded(name, content))


def _decoded(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise InputError(
            f"{name} is not UTF-8: byte 0x{fault.object[fault.start]:02x} at {fault.start}. "
            "Convert it, such as by `iconv -f LATIN1 -t UTF-8`, or leave it out if it is binary."
        ) from fault
    if "\0" in text:
        raise InputError(
            f"{name} is binary, not text: a NUL at character {text.index(chr(0))}. Leave it out."
        )
    return text


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
