"""Cut a folded text into runs that no finding crosses. Knows nothing of what is found in them.

A run is a word with what a pattern could join to it: the next group of digits, the value after a `=`,
the body of a private key. Everything else ends it. Where a run ends depends on what was read up to the
first character that ends it, never on how the text was cut into pieces; on this the stream filter stands.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Spaces that a run may step over.
MAX_GAP = 3

# What no pattern holds ends a run: punctuation of lists and code, line ends, scripts other than Latin.
_CHUNK = re.compile(r"[!-+\--:=?-Z^_a-z~\u00c0-\u024f]+")
_NEXT = re.compile(r"[!-+\--:=?-Z^_a-z~\u00c0-\u024f]")
_SPACES = re.compile(r"[ \t]+")

_GROUP_END, _GROUP_START = frozenset("0123456789()/.-"), frozenset("0123456789()/.-+")
_ASSIGN = frozenset("=:")
_IBAN_SO_FAR = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]{0,2}[A-Za-z0-9]){0,29}\Z")
_MAX_IBAN = 34 + 2 * 10
_SCHEME_SO_FAR = re.compile(r"\b(?:bearer|basic|token)\Z", re.IGNORECASE)
_MAX_SCHEME = 8
_RULER_SO_FAR = re.compile(r"-----(?:BEGIN|END)[A-Z0-9 ]{0,40}\Z")
_MAX_RULER = 60
_HEADER = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_FOOTER = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"[A-Za-z0-9+/=\s\\:,\-]*")


# Words of letters alone, each before a word: most of prose. Nothing joins them but a scheme (`Bearer x`).
_PROSE = re.compile(r"(?:(?!(?i:bearer|basic|token) )[A-Za-z]{1,19}[.,;]?[ \n]{1,3}(?=[A-Za-z]))+")


def prose_end(text: str, start: int) -> int:
    """Where the runs end that start at `start` and can hold nothing; `start` where that is not plain."""
    found = _PROSE.match(text, start)
    return found.end() if found else start


def run_start(text: str, start: int, end: int) -> int:
    """Where the first run of `text[start:end]` starts; `end` if there is none."""
    found = _NEXT.search(text, start, end)
    return found.start() if found else end


class RunEnd(NamedTuple):
    """Where a run ends; `is_closed` where that is proven, else what follows could still join.

    `last_chunk` is where to look on from when more of the text is there.
    """

    end: int
    is_closed: bool
    last_chunk: int


def run_end(text: str, start: int, end: int, last_chunk: int) -> RunEnd:
    """Find where the run that starts at `start` ends; chunks before `last_chunk` are known to join."""
    at = last_chunk
    while True:
        chunk = _CHUNK.match(text, at, end)
        assert chunk is not None, "a run and its joins start with a character of a run"
        last_chunk, at = at, chunk.end()
        if header := _header(text, start, at):
            return RunEnd(*_key_end(text, header.end(), end), last_chunk)
        if at == end:
            return RunEnd(at, False, last_chunk)
        spaces = _SPACES.match(text, at, end)
        if spaces is None or spaces.end() - at > MAX_GAP:
            return RunEnd(at, True, last_chunk)
        if spaces.end() == end:
            return RunEnd(at, False, last_chunk)
        if not _joins(text, start, at, spaces.end()):
            return RunEnd(at, True, last_chunk)
        at = spaces.end()


def _joins(text: str, start: int, at: int, after: int) -> bool:
    """Whether a pattern may reach from the run `text[start:at]` over spaces to the character `after`."""
    before, following = text[at - 1], text[after]
    if not _NEXT.match(following):
        return False
    if before in _ASSIGN or following in _ASSIGN:
        return True
    if after - at > 2:
        return False
    if before in _GROUP_END and following in _GROUP_START:
        return True
    if following.isalnum() and _IBAN_SO_FAR.search(text, max(start, at - _MAX_IBAN), at):
        return True
    if _SCHEME_SO_FAR.search(text, max(start, at - _MAX_SCHEME), at):
        return True
    return bool(_RULER_SO_FAR.search(text, max(start, at - _MAX_RULER), at))


def _header(text: str, start: int, at: int) -> re.Match[str] | None:
    ruler = text.find("-----BEGIN ", start, at)
    return _HEADER.search(text, ruler, at) if ruler >= 0 else None


def _key_end(text: str, body: int, end: int) -> tuple[int, bool]:
    """Where the private key whose body starts at `body` ends; prose after a lone header ends it too."""
    found = _BODY.match(text, body, end)
    assert found is not None, "an empty body matches"
    footer = _FOOTER.search(text, body, found.end())
    return (footer.end(), True) if footer else (found.end(), found.end() < end)
