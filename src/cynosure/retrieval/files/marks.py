"""Cut a file's text where its marks stand into entries of bounded length. Knows nothing of formats.

Marks only say where something begins, so that entries cover the whole text whatever a format's reader says.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cynosure.core.errors import InputTooLong
from cynosure.retrieval.documents import Entry
from cynosure.retrieval.text import Span

#: Characters of an entry. More is cut at a blank line, a line's end or, where there is none, anywhere.
MAX_SECTION = 2000

#: Characters of a name. It stands before each passage, and takes at most a token a character there.
MAX_NAME = 160

_LINE = re.compile(r"\r\n|\r|\n")
_BLANK = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Mark:
    """Where a part of a text begins, what it is called within the file, and what kind it is."""

    start: int
    place: str
    kind: str


@dataclass(frozen=True)
class Extract:
    """A file's text, and its marks in order; the first stands at 0. `columns` are those of a table."""

    text: str
    marks: tuple[Mark, ...]
    columns: str = ""


def entries_of(label: str, extract: Extract) -> tuple[Entry, ...]:
    """Every part of a text that is not blank, named after its file and place.

    Raises:
        InputTooLong: the label leaves no room for a place in a name.
    """
    text, marks = extract.text, extract.marks
    lines = line_starts(text)
    ends = [*(mark.start for mark in marks[1:]), len(text)]
    entries: dict[str, Entry] = {}
    for mark, stop in zip(marks, ends, strict=True):
        for piece in pieces(text, (mark.start, stop)):
            part = text[slice(*piece)]
            start = piece[0] + len(part) - len(part.lstrip())
            doc = part.strip()
            if not doc:
                continue
            line = bisect.bisect_right(lines, start)
            name = _name(label, mark.place, line, entries)
            entries[name] = Entry(name, mark.kind, label, extract.columns, doc, start=start)
    return tuple(entries.values())


def line_starts(text: str) -> list[int]:
    """Where each line begins."""
    return [0, *(match.end() for match in _LINE.finditer(text))]


def pieces(text: str, span: Span) -> Iterator[Span]:
    """Cut a span into parts of at most `MAX_SECTION`, at the best edge in each."""
    start, end = span
    while end - start > MAX_SECTION:
        limit = start + MAX_SECTION
        blanks = [match.end() for match in _BLANK.finditer(text, start, limit)]
        # An edge in the first half would leave a part that says little.
        cut = next((edge for edge in reversed(blanks) if edge > start + MAX_SECTION // 2), 0)
        cut = cut or text.rfind("\n", start, limit) + 1
        cut = cut if cut > start else limit
        yield start, cut
        start = cut
    yield start, end


def path_of(headings: Sequence[str]) -> str:
    """A place's name from the headings above it: as many of the last as fit, each whole."""
    place = ""
    for heading in reversed(headings):
        words = " ".join(heading.split())
        longer = f"{words} > {place}" if place else words
        if len(longer) > MAX_NAME // 2:
            break
        place = longer
    return place


def _name(label: str, place: str, line: int, taken: dict[str, Entry]) -> str:
    plain = f"{label}: {place}" if place else label
    numbered = f"{plain} (line {line})"
    if len(numbered) > MAX_NAME:
        plain, numbered = label, f"{label} (line {line})"
    if len(numbered) > MAX_NAME:
        raise InputTooLong(
            f"{label} has a path of {len(label)} characters; the limit is about {MAX_NAME - 16}. "
            "Index a folder further down."
        )
    if plain not in taken:
        return plain
    # A line too long for one part has several: they go by their number.
    again, count = numbered, 2
    while again in taken:
        again, count = f"{numbered[:-1]}, part {count})", count + 1
    return again
