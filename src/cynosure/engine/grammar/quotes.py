"""Find in a text the quotes that it is made of, and where they come from. Knows nothing of tokens or models.

It is the other side of the constraint: what an answer was held to is read off the answer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cynosure.models.text.stream_decoder import REPLACEMENT


class Quoted(NamedTuple):
    """A stretch of an answer, and the stretch of a text that it says again; in Unicode code points.

    Where a quote stands at several places, the first is told.
    """

    start: int
    end: int
    text: int
    source_start: int
    source_end: int


class _Reading(NamedTuple):
    """The best that can be made of an answer from some line on; the least is best."""

    num_foreign: int
    num_short: int
    num_quotes: int
    first: Quoted | None
    next_line: int


def quotes_in(answer: str, texts: Sequence[str], *, min_chars: int = 1) -> tuple[Quoted, ...]:
    """The quotes of an answer, in order: as few as there can be, so that each is as long as can be.

    A line that stands in none of the texts belongs to no quote. A quote of fewer than `min_chars` characters
    is told only where the answer can't be read otherwise: it was cut short. Half a character at its end is
    in no quote either.
    """
    if not any(REPLACEMENT in text for text in texts):
        answer = answer.rstrip(REPLACEMENT)
    lines = answer.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    readings = [_Reading(0, 0, 0, None, 0)] * (len(lines) + 1)
    for at in range(len(lines) - 1, -1, -1):
        rest = readings[at + 1]
        best = rest._replace(num_foreign=rest.num_foreign + bool(lines[at]), first=None, next_line=at + 1)
        for found, behind in _from_line(answer, lines, starts, at, texts):
            rest = readings[behind]
            is_short = found.end - found.start < min_chars
            cost = (rest.num_foreign, rest.num_short + is_short, rest.num_quotes + 1)
            if cost <= best[:3]:
                best = _Reading(*cost, found, behind)
        readings[at] = best
    quotes, at = [], 0
    while at < len(lines):
        if (found := readings[at].first) is not None:
            quotes.append(found)
        at = readings[at].next_line
    return tuple(quotes)


def _from_line(
    answer: str, lines: Sequence[str], starts: Sequence[int], at: int, texts: Sequence[str]
) -> list[tuple[Quoted, int]]:
    """The quotes that begin with a line, shortest first, each with the line behind it."""
    found: list[tuple[Quoted, int]] = []
    if not lines[at]:
        return found
    text, place = 0, 0
    for last in range(at, len(lines)):
        quote = answer[starts[at] : starts[last + 1] - 1]
        # A longer one can only stand where the shorter stood, or behind.
        while text < len(texts) and (place := texts[text].find(quote, place)) < 0:
            text, place = text + 1, 0
        if text == len(texts):
            break
        if lines[last]:
            end = starts[at] + len(quote)
            found.append((Quoted(starts[at], end, text, place, place + len(quote)), last + 1))
    return found
