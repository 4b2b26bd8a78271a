"""Keep a text as an editor changes it, and find its positions. Knows nothing of requests.

Editors count a line's characters in units of an encoding that both sides agree on (LSP 3.17,
`positionEncoding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from cynosure.cli.editor.source_lines import SourceLines
from cynosure.core.errors import UnknownOption

#: Bytes of a unit, by the encoding's name.
_UNIT_BYTES: Mapping[str, int] = MappingProxyType({"utf-8": 1, "utf-16": 2, "utf-32": 4})
_CODECS: Mapping[str, str] = MappingProxyType(
    {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
)


class Position(NamedTuple):
    """A line, and units on it; both from 0."""

    line: int
    character: int


class OpenDocument:
    """A text that an editor holds; a new one after each change."""

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        """Hold a text.

        Raises:
            UnknownOption: an encoding that LSP does not name.
        """
        if encoding not in _UNIT_BYTES:
            raise UnknownOption(
                f"position encoding {encoding!r} is unknown; known: {', '.join(_UNIT_BYTES)}."
            )
        self.text = text
        self.encoding = encoding

    @cached_property
    def lines(self) -> SourceLines:
        """Where its lines are."""
        return SourceLines(self.text)

    def changed(self, start: Position, end: Position, text: str) -> OpenDocument:
        """The document with another text between two positions."""
        first, last = self.offset_of(start), self.offset_of(end)
        return OpenDocument(f"{self.text[:first]}{text}{self.text[max(first, last) :]}", self.encoding)

    def offset_of(self, position: Position) -> int:
        """The code point at a position; behind a line it is the line's end, within a character its start."""
        if position.line >= len(self.lines):
            return len(self.text)
        line = self.lines.line(position.line)
        begin = self.lines.starts[position.line]
        if self.encoding == "utf-32" or line.isascii():
            return begin + min(position.character, len(line))
        left = position.character * _UNIT_BYTES[self.encoding]
        for place, character in enumerate(line):
            left -= self._num_bytes(character)
            if left < 0:
                return begin + place
        return begin + len(line)

    def position_of(self, offset: int) -> Position:
        """Where a code point stands, in the editor's units."""
        number, column = self.lines.place_of(offset)
        units = self._num_bytes(self.lines.line(number)[:column]) // _UNIT_BYTES[self.encoding]
        return Position(number, units)

    def _num_bytes(self, text: str) -> int:
        # A lone half of a pair counts as one unit of UTF-16.
        return len(text.encode(_CODECS[self.encoding], "surrogatepass"))
