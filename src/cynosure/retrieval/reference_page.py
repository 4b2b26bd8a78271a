"""Read one page of Python's reference documentation, in reStructuredText. Knows nothing of files or indexes.

A page describes objects by directives (`.. function:: merge(*iterables)` and an indented text), between
which stands text of the module, in sections. What a reader does not see, or what says nothing of an object
(labels, index terms, authors, version history), is left out.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from cynosure.retrieval.reference_markup import plain

KINDS = {
    "function": "function",
    "coroutinefunction": "function",
    "awaitablefunction": "function",
    "decorator": "function",
    "class": "class",
    "exception": "class",
    "method": "method",
    "classmethod": "method",
    "staticmethod": "method",
    "abstractmethod": "method",
    "coroutinemethod": "method",
    "awaitablemethod": "method",
    "decoratormethod": "method",
    "attribute": "property",
    "property": "property",
    "data": "data",
}
_SAID = {
    "note": "Note:",
    "warning": "Warning:",
    "caution": "Caution:",
    "important": "Important:",
    "impl-detail": "CPython implementation detail:",
    "seealso": "See also:",
    "deprecated": "Deprecated since version",
    "deprecated-removed": "Deprecated since version",
    "rubric": "",
    "sidebar": "",
    "describe": "",
    "list-table": "",
    "opcode": "",
    "cmdoption": "",
    "option": "",
    "pdbcommand": "",
}
_CODE = frozenset({"code-block", "doctest", "testcode", "testoutput", "sourcecode", "code", "productionlist"})

_DIRECTIVE = re.compile(r"( *)\.\. (?:py:)?([\w-]+):: *(.*)$")
_SUBSTITUTE = re.compile(r" *\.\. \|([^|]+)\| replace:: *(.*)$")
_EXPLICIT = re.compile(r"( *)\.\.(?: |$)")
_RULE = re.compile(r"([^\w\s])\1{2,}\s*$")
_TABLE_EDGE = re.compile(r"\s*[-=+| ]*(?:--|==)[-=+| ]*$")
_OPTION = re.compile(r" *:[\w-]+:")
_SIGNATURE = re.compile(r"(?:(?:class|async|abstract|static) +)*(?P<name>[\w.]+) *(?P<rest>\(.*)?")
_BLANKS = re.compile(r"\n(?:[ \t]*\n){2,}")


@dataclass(frozen=True)
class Described:
    """An object with its text; `name` is qualified by the page's module and class."""

    name: str
    kind: str
    module: str
    signature: str
    text: str


@dataclass(frozen=True)
class Section:
    """A module's own text under one title, which the text begins with."""

    module: str
    text: str


@dataclass
class _Text:
    """Lines on their way to a text: those of prose are freed of markup, those of code are not."""

    chunks: list[tuple[bool, list[str]]] = field(default_factory=list)

    def add(self, line: str, is_code: bool = False) -> None:
        if not self.chunks or self.chunks[-1][0] != is_code:
            self.chunks.append((is_code, []))
        self.chunks[-1][1].append(line.rstrip())

    def finish(self, substitutes: dict[str, str]) -> str:
        parts = ["\n".join(lines) for _, lines in self.chunks]
        shown = (
            part if is_code else plain(part, substitutes)
            for part, (is_code, _) in zip(parts, self.chunks, strict=True)
        )
        return _BLANKS.sub("\n\n", "\n".join(shown)).strip("\n")


class Page:
    """One page, read; `described` and `sections` are in the page's order."""

    def __init__(self, source: str) -> None:
        """Read a page's source."""
        self.described: list[Described] = []
        self.sections: list[Section] = []
        self._module = ""
        self._substitutes: dict[str, str] = {}
        lines = source.expandtabs().splitlines()
        for line in lines:
            if match := _SUBSTITUTE.match(line):
                self._substitutes[match[1]] = plain(match[2])
        self._read_sections(lines)

    def _read_sections(self, lines: Sequence[str]) -> None:
        """Cut the page at its titles, and read what stands below each."""
        edges = [*_titles(lines), (len(lines), len(lines), "")]
        if edges[0][0] > 0:
            edges.insert(0, (0, 0, ""))
        for (_, start, title), (end, _, _) in itertools.pairwise(edges):
            text = _Text()
            self._walk(lines[start:end], text, "")
            said = text.finish(self._substitutes)
            if self._module and said.strip():
                heading = plain(title, self._substitutes)
                self.sections.append(Section(self._module, f"{heading}\n\n{said}" if heading else said))

    def _walk(self, lines: Sequence[str], text: _Text, owner: str) -> None:
        """Read lines whose text goes to `text`; `owner` is the class that they describe."""
        place = 0
        while place < len(lines):
            line = lines[place]
            if _EXPLICIT.match(line):
                end = _block_end(lines, place)
                self._explicit(line, lines[place + 1 : end], text, owner)
                text.add("")
            elif line.lstrip().startswith(">>>"):
                end = _paragraph_end(lines, place)
                _add_code(lines[place:end], text)
            elif line.startswith("**Source code:**"):
                end = _paragraph_end(lines, place)
            elif _RULE.match(line) or _TABLE_EDGE.match(line):
                end = place + 1
            elif line.rstrip().endswith("::"):
                end = _block_end(lines, place)
                text.add(line.rstrip().removesuffix("::").rstrip() + ":" if line.strip() != "::" else "")
                _add_code(lines[place + 1 : end], text)
            else:
                text.add(line)
                end = place + 1
            place = end

    def _explicit(self, line: str, block: Sequence[str], text: _Text, owner: str) -> None:
        """Read what begins with two dots: a directive, or what no reader sees."""
        match = _DIRECTIVE.match(line)
        if match is None:
            return
        _, name, argument = match.groups()
        if name in {"module", "currentmodule"}:
            self._module = "" if argument.strip() == "None" else argument.strip()
        elif name in KINDS:
            self._describe(KINDS[name], argument, block, owner)
        elif name in _CODE:
            text.add("")
            _add_code(_without_options(block), text)
        elif name in _SAID:
            text.add(f"{_SAID[name]} {argument}".strip())
            self._walk(_dedented(_without_options(block)), text, owner)

    def _describe(self, kind: str, argument: str, block: Sequence[str], owner: str) -> None:
        """Read an object's directive: signatures up to a blank line, then its text."""
        blank = next(
            (n for n, line in enumerate(block) if not line.strip() or _OPTION.match(line)), len(block)
        )
        signatures = "\n".join([argument, *block[:blank]]).replace("\\\n", " ").split("\n")
        found: dict[str, str] = {}
        for signature in signatures:
            match = _SIGNATURE.match(signature.strip())
            if match is not None:
                rest = " ".join((match["rest"] or "").replace("\\", "").split())
                found.setdefault(_qualified(match["name"], kind, owner), rest)
        names = list(found)
        inside = names[0] if names and kind == "class" else owner
        text = _Text()
        self._walk(_dedented(_without_options(block[blank:])), text, inside)
        said = text.finish(self._substitutes)
        for name in names if said.strip() else ():
            full = f"{self._module}.{name}" if self._module else name
            self.described.append(Described(full, kind, self._module or "builtins", found[name], said))


def _qualified(name: str, kind: str, owner: str) -> str:
    """A name within its module, as Sphinx forms it."""
    if not owner or kind in {"function", "data"} or name.startswith(f"{owner}."):
        return name
    return f"{owner}.{name}"


def _titles(lines: Sequence[str]) -> list[tuple[int, int, str]]:
    """Each title: its first line, the line after it, and its words."""
    found = []
    place = 0
    while place + 1 < len(lines):
        line, below = lines[place], lines[place + 1]
        above = lines[place - 1] if place else ""
        is_title = line.strip() and not line.startswith((" ", "..")) and not _RULE.match(line)
        if is_title and _RULE.match(below) and len(below.rstrip()) >= len(line.rstrip()) > 0:
            has_overline = bool(_RULE.match(above)) and above.rstrip() == below.rstrip()
            found.append((place - has_overline, place + 2, line.strip()))
            place += 1
        place += 1
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block_end(lines: Sequence[str], place: int) -> int:
    """One past the last line that is blank, or further in than the line at `place`."""
    depth = _indent(lines[place])
    end = place + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > depth):
        end += 1
    return end


def _paragraph_end(lines: Sequence[str], place: int) -> int:
    return next((n for n in range(place, len(lines)) if not lines[n].strip()), len(lines))


def _without_options(block: Sequence[str]) -> Sequence[str]:
    """What follows a directive's options, such as `:noindex:`."""
    start = 0
    while start < len(block) and _OPTION.match(block[start]):
        start += 1
    return block[start:]


def _dedented(block: Sequence[str]) -> list[str]:
    return textwrap.dedent("\n".join(block)).split("\n")


def _add_code(lines: Sequence[str], text: _Text) -> None:
    for line in lines:
        text.add(line, is_code=True)
