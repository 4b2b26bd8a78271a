"""Find a line and a column in a text, as editors count them. Knows nothing of files or protocols.

A line ends with a line feed, a carriage return, or both; a form feed, which Python's `splitlines` cuts at, is
a character like any other.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

_BREAK = re.compile(r"\r\n|\n|\r")


class SourceLines:
    """Where each line of a text begins, and where what is on it ends; in code points."""

    def __init__(self, text: str) -> None:
        """Find the lines; behind the last line break stands one more, which may be empty."""
        found = [match.span() for match in _BREAK.finditer(text)]
        self.text = text
        self.starts: Sequence[int] = [0, *(end for _, end in found)]
        self._ends = [*(start for start, _ in found), len(text)]

    def __len__(self) -> int:
        """How many lines there are; at least one."""
        return len(self.starts)

    def line(self, number: int) -> str:
        """What is on a line, counted from 0, without its break."""
        return self.text[self.starts[number] : self._ends[number]]

    def place_of(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 0; between the two halves of a break, before it."""
        number = bisect_right(self.starts, offset) - 1
        return number, min(offset, self._ends[number]) - self.starts[number]


def in_one_break(text: str) -> str:
    """The text with `\\n` for each line break of Windows."""
    return text.replace("\r\n", "\n")


def original_offset(text: str, offset: int) -> int:
    """Where an offset into `in_one_break(text)` lies in the text itself."""
    place = 0
    for match in re.finditer("\r\n", text):
        if match.start() - place >= offset:
            break
        place += 1
    return offset + place
