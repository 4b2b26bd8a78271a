"""Fold look-alike characters to plain ones, with offsets kept. Knows no pattern.

One character folds to one or to none, so that a fold never depends on what stands around it: a stream
that is cut anywhere folds to the same characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

#: Controls of direction, joiners and soft hyphens are of category Cf; these are drawn as nothing, too.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u20e3\u3164\uffa0")


class _Table(dict[int, str | None]):
    """What a code point folds to, computed when first met."""

    def __missing__(self, code: int) -> str | None:
        self[code] = folded = _folded(chr(code))
        return folded


def _folded(char: str) -> str | None:
    category = unicodedata.category(char)
    if category == "Cf" or char in _INVISIBLE or "\ufe00" <= char <= "\ufe0f":
        return None
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd":
        return "-"
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() else char


_TABLE = _Table()


def fold(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text, and for each of its characters where it stood in `text`.

    Digits of every script, full-width and mathematical letters, dashes and wide spaces become ASCII;
    zero-width characters, soft hyphens and controls of direction vanish.
    """
    if text.isascii():
        return text, range(len(text))
    plain = text.translate(_TABLE)
    if len(plain) == len(text):
        return plain, range(len(text))
    return plain, [place for place, char in enumerate(text) if _TABLE[ord(char)] is not None]
