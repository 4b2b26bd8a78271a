"""Say where a reader of Python stands: in code, a name, a number, a string or a comment. Knows no names.

It reads byte by byte and looks at nothing twice, so that code can be followed as it is written.
Strings are read as before Python 3.12: an f-string is a string to its end, with all that stands in it.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

NUM_SYMBOLS = 256

_QUOTES = "'\""
_NAME_START = frozenset("_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
#: What a number is written with: 0xFF, 1_000, 1.5e3j.
_IN_NUMBER = _DIGITS | frozenset("_.abcdefABCDEFxXoObBjJ")

#: Names before a quote that say how its string is read.
STRING_PREFIXES = frozenset(
    {"r", "b", "u", "f", "t", "br", "rb", "fr", "rf", "tr", "rt"}
    | {"R", "B", "U", "F", "T", "bR", "Br", "BR", "rB", "Rb", "RB", "fR", "Fr", "FR", "rF", "Rf", "RF"}
    | {"tR", "Tr", "TR", "rT", "Rt", "RT"}
)


class Place(IntEnum):
    """Where a reader stands; of strings there are two kinds, one for each quote.

    `OPENED`: behind the first quote, `EMPTY` behind two; `LINE` in a string of one line, `LONG` in one of
    three quotes, `LONG_ONE` and `LONG_TWO` behind quotes that may end it. `..._ESCAPE` is behind a backslash.
    """

    CODE = 0
    NAME = 1
    NUMBER = 2
    COMMENT = 3
    OPENED = 4
    EMPTY = 5
    LINE = 6
    LINE_ESCAPE = 7
    LONG = 8
    LONG_ESCAPE = 9
    LONG_ONE = 10
    LONG_TWO = 11


#: How far the places of the second kind of quote lie behind those of the first.
_QUOTE_SHIFT = 8
NUM_PLACES = max(Place) + 1 + _QUOTE_SHIFT


def is_in_name(symbol: int) -> bool:
    """Whether a byte goes on with a name; bytes of other scripts do."""
    return symbol >= 128 or chr(symbol) in _NAME_START or chr(symbol) in _DIGITS


def is_quote(symbol: int) -> bool:
    """Whether a byte opens a string."""
    return chr(symbol) in _QUOTES


@lru_cache(maxsize=1)
def transitions() -> tuple[tuple[int, ...], ...]:
    """For each place and byte the next place."""
    return tuple(tuple(_after(place, symbol) for symbol in range(NUM_SYMBOLS)) for place in range(NUM_PLACES))


def end_of(text: str) -> str:
    """A short text that leaves a reader where this one does: a name that is begun, an open string, a `#`.

    The text may begin anywhere in code.
    """
    table, place, begun = transitions(), int(Place.CODE), 0
    # Half of a surrogate pair is no part of a name.
    written = text.encode(errors="replace")
    for at, symbol in enumerate(written):
        after = table[place][symbol]
        if after == Place.NAME != place:
            begun = at
        place = after
    if place == Place.NAME:
        # Half of a character may be no text; a whole text ends with whole ones.
        return written[begun:].decode()
    return _shortest(place)


def _after(place: int, symbol: int) -> int:
    shift = _QUOTE_SHIFT if place > max(Place) else 0
    if place >= Place.OPENED:
        return _in_string(Place(place - shift), symbol, shift)
    if place == Place.COMMENT:
        return Place.CODE if symbol == ord("\n") else Place.COMMENT
    if place == Place.NUMBER and symbol < 128 and chr(symbol) in _IN_NUMBER:
        return Place.NUMBER
    if place == Place.NAME and is_in_name(symbol):
        return Place.NAME
    return _in_code(symbol)


def _in_code(symbol: int) -> int:
    if is_quote(symbol):
        return Place.OPENED + _QUOTE_SHIFT * _QUOTES.index(chr(symbol))
    if symbol < 128 and chr(symbol) in _DIGITS:
        return Place.NUMBER
    if is_in_name(symbol):
        return Place.NAME
    return Place.COMMENT if symbol == ord("#") else Place.CODE


def _in_string(place: Place, symbol: int, shift: int) -> int:
    quote, is_escape = ord(_QUOTES[shift // _QUOTE_SHIFT]), symbol == ord("\\")
    if place is Place.EMPTY and symbol != quote:
        return _in_code(symbol)
    if place in (Place.OPENED, Place.LINE) and symbol == ord("\n"):
        # No string of one line goes on behind it: what was read is broken, and the next line is code.
        return Place.CODE
    if symbol == quote:
        after = {
            Place.OPENED: Place.EMPTY,
            Place.EMPTY: Place.LONG,
            Place.LINE: None,
            Place.LONG: Place.LONG_ONE,
            Place.LONG_ONE: Place.LONG_TWO,
            Place.LONG_TWO: None,
            Place.LINE_ESCAPE: Place.LINE,
            Place.LONG_ESCAPE: Place.LONG,
        }[place]
        return Place.CODE if after is None else after + shift
    if place in (Place.LINE_ESCAPE, Place.LONG_ESCAPE):
        return (Place.LINE if place is Place.LINE_ESCAPE else Place.LONG) + shift
    if place in (Place.OPENED, Place.LINE):
        return (Place.LINE_ESCAPE if is_escape else Place.LINE) + shift
    return (Place.LONG_ESCAPE if is_escape else Place.LONG) + shift


def _shortest(place: int) -> str:
    """A text that leads from code to a place."""
    shift = _QUOTE_SHIFT if place > max(Place) else 0
    quote = _QUOTES[shift // _QUOTE_SHIFT]
    return {
        Place.CODE: "",
        Place.NAME: "",
        Place.NUMBER: "0",
        Place.COMMENT: "#",
        Place.OPENED: quote,
        Place.EMPTY: quote * 2,
        Place.LINE: f"{quote}.",
        Place.LINE_ESCAPE: f"{quote}\\",
        Place.LONG: quote * 3,
        Place.LONG_ESCAPE: f"{quote * 3}\\",
        Place.LONG_ONE: f"{quote * 3}.{quote}",
        Place.LONG_TWO: f"{quote * 3}.{quote * 2}",
    }[Place(place - shift)]
