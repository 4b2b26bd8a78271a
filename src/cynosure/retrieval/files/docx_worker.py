"""Take the paragraphs out of a DOCX. Knows nothing of limits of time: it runs as a script.

A DOCX is a ZIP of XML parts that name each other by relations (ISO/IEC 29500-2); the text is WordprocessingML
(29500-1, part 17), in its transitional or its strict namespace. What is unpacked is counted while it is, and
goes through the parser piece by piece: neither a ZIP bomb nor a long document is ever held whole.
"""

from __future__ import annotations

import base64
import io
import posixpath
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from xml.parsers import expat

from cynosure.core.json_worker import Refused, serve

_WORD = frozenset(
    {
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    }
)
_MATHS = frozenset(
    {
        "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "http://purl.oclc.org/ooxml/officeDocument/math",
    }
)
#: What is struck out or moved away, what formatting was before, readings above the line, and a second form of
#: what an older reader can't show: none of it is text that a reader sees.
_UNSEEN = frozenset(
    {"del", "moveFrom", "rt", "Fallback", "pPrChange", "rPrChange", "tblPrChange", "trPrChange", "tcPrChange"}
)
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_FALSE = frozenset({"0", "false", "off"})

_PIECE = 1 << 16
_HELP = "Open it and save it anew, or leave it out."


class Handler(Protocol):
    """Follows the elements of one part."""

    def start(self, space: str, name: str, values: Mapping[str, str]) -> None:
        """An element begins; its attributes go by their local names."""
        ...

    def end(self, space: str, name: str) -> None:
        """It ends."""
        ...

    def data(self, text: str) -> None:
        """Characters within it."""
        ...


class Package:
    """The parts of a ZIP, and how much was unpacked of it."""

    def __init__(self, content: bytes, max_expanded_bytes: int) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(content))
        self._names = frozenset(self._zip.namelist())
        self._left = self._max = max_expanded_bytes

    def has(self, part: str) -> bool:
        """Whether there is such a part."""
        return part in self._names

    def follow(self, part: str, handler: Handler) -> None:
        """Lead a handler through a part."""
        if self._zip.getinfo(part).flag_bits & 1:
            raise Refused("is encrypted. Save it without a password, or leave it out.")
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = lambda name, values: handler.start(
            *_split(name), {_split(key)[1]: value for key, value in values.items()}
        )
        parser.EndElementHandler = lambda name: handler.end(*_split(name))
        parser.CharacterDataHandler = handler.data
        with self._zip.open(part) as stream:
            while piece := stream.read(_PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise Refused(
                        f"unpacks to over {self._max / 2**20:g} MiB, which is the limit. "
                        "Split it, or leave it out."
                    )
                parser.Parse(piece, False)
        parser.Parse(b"", True)

    def related(self, part: str) -> dict[str, str]:
        """The parts that one names, by the last word of the relation's type; the package itself is ""."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        relations = Relations()
        if self.has(path):
            self.follow(path, relations)
        targets = {kind: posixpath.join("/", folder, target) for kind, target in relations.targets.items()}
        return {kind: posixpath.normpath(target).lstrip("/") for kind, target in targets.items()}


class Relations:
    """What a part is related to within the package."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}

    def start(self, space: str, name: str, values: Mapping[str, str]) -> None:
        """Keep a relation."""
        if name == "Relationship" and values.get("TargetMode") != "External":
            self.targets[values.get("Type", "").rpartition("/")[2]] = values.get("Target", "")

    def end(self, space: str, name: str) -> None:
        """Nothing."""

    def data(self, text: str) -> None:
        """Nothing."""


@dataclass
class Style:
    """A style of paragraphs: the outline's level, the name, and the style that it is based on."""

    name: str = ""
    base: str = ""
    level: int | None = None


class Styles:
    """Which styles are headings, and of which level."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}
        self._style = Style()

    def start(self, space: str, name: str, values: Mapping[str, str]) -> None:
        """Note what a style says."""
        if space not in _WORD:
            return
        value = values.get("val", "")
        if name == "style":
            self._style = self._styles.setdefault(values.get("styleId", ""), Style())
        elif name == "name":
            self._style.name = value.lower()
        elif name == "basedOn":
            self._style.base = value
        elif name == "outlineLvl":
            self._style.level = _number(value)

    def end(self, space: str, name: str) -> None:
        """Nothing."""

    def data(self, text: str) -> None:
        """Nothing."""

    def level(self, style: str) -> int | None:
        """A heading's level from 1, 0 for a document's title, and None for what is no heading."""
        seen: set[str] = set()
        while style in self._styles and style not in seen:
            seen.add(style)
            found = self._styles[style]
            if found.name == "title":
                return 0
            if found.level is not None:
                return outline(found.level)
            kind, _, number = found.name.rpartition(" ")
            if kind == "heading" and number.isdecimal():
                return int(number)
            style = found.base
        return None


@dataclass
class Run:
    """Characters of one format."""

    parts: list[str] = field(default_factory=list)
    is_hidden: bool = False


@dataclass
class Paragraph:
    """What was read of a paragraph so far, its level, and its run's own text where one is open."""

    parts: list[str] = field(default_factory=list)
    level: int | None = None
    runs: list[Run] = field(default_factory=list)


class Story:
    """The paragraphs of the body or of the notes, in order; a row of a table is one block."""

    def __init__(self, styles: Styles, max_chars: int) -> None:
        self.blocks: list[tuple[int | None, str, bool]] = []
        self.root = ""
        self._styles = styles
        self._left = self._max = max_chars
        self._open: list[str] = []
        self._unseen = 0
        self._paragraphs: list[Paragraph] = []
        self._rows: list[list[list[str]]] = []

    def start(self, space: str, name: str, values: Mapping[str, str]) -> None:
        """Open a paragraph, a run, a row or a cell, or note what is said of one."""
        self.root = self.root or (name if space in _WORD else "another")
        if self._unseen or name in _UNSEEN:
            self._unseen += 1
            return
        above = self._open[-1] if self._open else ""
        self._open.append(name if space in _WORD else "t" if space in _MATHS and name == "t" else "")
        if space not in _WORD:
            return
        if name == "p":
            self._paragraphs.append(Paragraph())
        elif name == "tr":
            self._rows.append([])
        elif name == "tc" and self._rows:
            self._rows[-1].append([])
        elif self._paragraphs:
            self._note(self._paragraphs[-1], above, name, values)

    def _note(self, paragraph: Paragraph, above: str, name: str, values: Mapping[str, str]) -> None:
        value = values.get("val", "")
        if name == "r":
            paragraph.runs.append(Run())
        elif name == "pStyle":
            level = self._styles.level(value)
            paragraph.level = level if paragraph.level is None else paragraph.level
        elif name == "outlineLvl":
            paragraph.level = outline(_number(value))
        elif above == "r" and name in _SIGNS:
            self._write(_SIGNS[name])
        elif above == "r" and name == "sym":
            code = int(values.get("char", "fffd"), 16)
            self._write(chr(code) if code <= 0x10FFFF else "\ufffd")
        elif name == "vanish" and above == "rPr" and paragraph.runs:
            paragraph.runs[-1].is_hidden = value not in _FALSE

    def end(self, space: str, name: str) -> None:
        """Close it."""
        if self._unseen:
            self._unseen -= 1
            return
        self._open.pop()
        if space not in _WORD:
            return
        if name == "r" and self._paragraphs and self._paragraphs[-1].runs:
            run = self._paragraphs[-1].runs.pop()
            if not run.is_hidden:
                self._paragraphs[-1].parts += run.parts
        elif name == "p" and self._paragraphs:
            paragraph = self._paragraphs.pop()
            self._keep(paragraph.level, "".join(paragraph.parts).strip())
        elif name == "tr" and self._rows:
            cells = (" ".join(texts) for texts in self._rows.pop())
            self._keep(None, "\t".join(cells).strip(), is_row=True)

    def data(self, text: str) -> None:
        """Keep the characters of a `t`."""
        if not self._unseen and self._open and self._open[-1] == "t":
            self._write(text)

    def _write(self, text: str) -> None:
        if not self._paragraphs:
            return
        self._left -= len(text)
        if self._left < 0:
            raise Refused(f"holds over {self._max} characters, which is the limit. Split it.")
        paragraph = self._paragraphs[-1]
        (paragraph.runs[-1] if paragraph.runs else paragraph).parts.append(text)

    def _keep(self, level: int | None, text: str, is_row: bool = False) -> None:
        if not text:
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(text)
        else:
            self.blocks.append((level, text, is_row))


def outline(level: int | None) -> int | None:
    """A heading's level from 1; the outline counts from 0, and 9 is the body's text."""
    return level + 1 if level is not None and level < 9 else None


def main() -> None:
    """Answer each file with its paragraphs."""
    serve(_read)


def _read(asked: Mapping[str, object]) -> dict[str, object]:
    try:
        content = base64.b64decode(str(asked["content"]))
        return {
            "blocks": _blocks(content, int(str(asked["max_chars"])), int(str(asked["max_expanded_bytes"])))
        }
    except (zipfile.BadZipFile, zlib.error, expat.ExpatError, EOFError) as fault:
        raise Refused(f"is damaged: {fault}. {_HELP}") from fault
    except (KeyError, ValueError, NotImplementedError, RuntimeError, OSError, UnicodeError) as fault:
        # Of `zipfile`: a part that is not there, a strange method of compression, an offset before the file.
        raise Refused(f"can't be read: {fault}. {_HELP}") from fault


def _blocks(content: bytes, max_chars: int, max_expanded_bytes: int) -> list[tuple[int | None, str, bool]]:
    package = Package(content, max_expanded_bytes)
    main = package.related("").get("officeDocument", "")
    if not package.has(main):
        raise Refused("is a ZIP without a Word document. Call it by the format that it has, or leave it out.")
    related = package.related(main)
    styles = Styles()
    if package.has(related.get("styles", "")):
        package.follow(related["styles"], styles)
    body = Story(styles, max_chars)
    package.follow(main, body)
    if body.root != "document":
        raise Refused("holds no Word document. Call it by the format that it has, or leave it out.")
    blocks = body.blocks
    for kind in ("footnotes", "endnotes"):
        if package.has(related.get(kind, "")):
            notes = Story(styles, max_chars)
            package.follow(related[kind], notes)
            blocks += notes.blocks
    return blocks


def _refuse_doctype(*_: object) -> None:
    # Entities of one's own are how a kilobyte of XML grows to gigabytes; Word writes none.
    raise Refused("declares a document type, which no Word document does. Leave it out.")


def _split(name: str) -> tuple[str, str]:
    space, _, local = name.rpartition(" ")
    return space, local


def _number(value: str) -> int | None:
    return int(value) if value.isdecimal() else None


if __name__ == "__main__":
    main()
