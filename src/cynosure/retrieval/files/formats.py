"""Take text out of a file by the format that its name says. Knows nothing of where files lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath

from cynosure.core.errors import InputError
from cynosure.retrieval.files.code import python_marks
from cynosure.retrieval.files.docx import read_docx
from cynosure.retrieval.files.html import read_html
from cynosure.retrieval.files.markdown import markdown_marks
from cynosure.retrieval.files.marks import Extract, Mark
from cynosure.retrieval.files.pdf import read_pdf
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

#: Formats that are no text themselves: the file's name goes along, for what they are refused for.
_BINARY: Mapping[str, Callable[[str, bytes], Extract]] = {".pdf": read_pdf, ".docx": read_docx}

#: Documents that hold text which is not read, and what helps.
_REFUSED: Mapping[str, str] = {
    ".doc": "Save it as DOCX: `soffice --convert-to docx FILE.doc`",
    ".odt": "Save it as DOCX: `soffice --convert-to docx FILE.odt`",
    ".epub": "Unpack it: its chapters are HTML",
    ".ipynb": "Save it as Markdown: `jupyter nbconvert --to markdown FILE.ipynb`",
}


def is_read(name: str) -> bool:
    """Whether files of this name are read."""
    return _suffix(name) in _READERS or _suffix(name) in _BINARY


def refusal(name: str) -> str:
    """Why files of this name are not read, and what helps."""
    suffix = _suffix(name)
    if suffix in _REFUSED:
        return f"{suffix[1:].upper()} is not read. {_REFUSED[suffix]}."
    what = f"files that end in {suffix} are" if suffix else "a file without an ending is"
    return f"{what} not read. Index Markdown, HTML, PDF, DOCX, text, source code, CSV or logs."


def read_text(name: str, content: bytes) -> Extract:
    """The text of a file with its marks.

    Raises:
        InputError: the name's format is not read, the content is of another, is binary or not UTF-8, or is a
            document that is encrypted, damaged, without text or over a limit.
        MissingPackage: what reads the format is not installed.
    """
    suffix = _suffix(name)
    if suffix in _BINARY:
        return _BINARY[suffix](name, content)
    if suffix not in _READERS:
        raise InputError(f"{name}: {refusal(name)}")
    return _READERS[suffix](_decoded(name, content))


def _decoded(name: str, content: bytes) -> str:
    # Old ones are ASCII throughout, so that nothing else would tell them from text.
    if content.startswith(b"%PDF-"):
        raise InputError(f"{name} is a PDF, not text. Call it .pdf, or leave it out.")
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
