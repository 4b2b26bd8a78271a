"""Say where a proposal ends: with its line, or with its block. Knows nothing of models.

A block is what Python's indentation makes one. It is read as the text comes, so that no more is written.
"""

from __future__ import annotations

import re
from enum import Enum

_OPENS_BLOCK = re.compile(r":\s*(#.*)?$")
#: What goes on with a statement though it stands at the margin.
_CLOSING = (")", "]", "}")
_CLAUSES = ("else", "elif", "except", "finally")
_TAB = 8


class Extent(Enum):
    """How much is proposed."""

    LINE = "line"
    BLOCK = "block"


def ended(text: str, extent: Extent, line_before: str) -> str | None:
    """The proposal, if a text that is still being written already holds its end.

    Args:
        text: what was written so far.
        extent: how much is wanted.
        line_before: what stands on the line before the gap.
    """
    if extent is Extent.LINE:
        head, found, _ = text.partition("\n")
        return head if found else None
    return _block(text, line_before)


def _block(text: str, line_before: str) -> str | None:
    first, *later = text.split("\n")
    least = _least_indent(line_before, first)
    end = position = len(first)
    is_apart = False
    for line in later:
        position += 1 + len(line)
        if not line.strip():
            is_apart = True
            continue
        indent = _indent(line)
        least = indent if least is None else least
        if indent < least or (not indent and is_apart and not _goes_on(line)):
            return text[:end]
        # At the margin nothing is less indented: there, a statement ends a block that stands apart from it.
        is_apart = indent > 0
        end = position
    return None


def _goes_on(line: str) -> bool:
    """Whether a line at the margin belongs to the statement above; one that is being written may come to."""
    word = re.split(r"\W", line, maxsplit=1)[0]
    is_open = word == line
    return line.startswith(_CLOSING) or any(
        clause == word or (is_open and clause.startswith(word)) for clause in _CLAUSES
    )


def _least_indent(line_before: str, first: str) -> int | None:
    """How far lines of the block are indented at least; None where its first line will tell."""
    whole = line_before + first
    if not whole.strip():
        return None
    if line_before.strip() and _OPENS_BLOCK.search(whole):
        return _indent(whole) + 1
    return _indent(whole)


def _indent(line: str) -> int:
    wide = line.expandtabs(_TAB)
    return len(wide) - len(wide.lstrip())
