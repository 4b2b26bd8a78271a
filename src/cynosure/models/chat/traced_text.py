"""Remember, for each character of a text, which text of a caller it came from. Knows no template, no token.

A `Traced` is a `str` that keeps its origin through slicing, splitting, trimming and joining. Whatever else is
computed from it (`upper`, `format`, JSON) is computed a second time with marks around the traced parts, which
shows where they went; where even that does not show, all of the result counts as the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

#: Unicode's noncharacters: sixteen digits, and marks before, inside and behind a number with its text.
_DIGITS = tuple(map(chr, range(0xFDD0, 0xFDE0)))
_OPEN, _MID, _CLOSE = "\ufde0", "\ufde1", "\ufde2"
_MARK = re.compile("[\ufdd0-\ufdef]")
_ESCAPED = re.compile(r"\\u(fd[de][0-9a-f])")
_MARKED = re.compile(f"{_OPEN}([{_DIGITS[0]}-{_DIGITS[-1]}]+){_MID}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


class Run(NamedTuple):
    """Characters `start:end` of a text come from a source, there from `offset` on; `None` where unknown."""

    start: int
    end: int
    source: int
    offset: int | None


class Traced(str):
    """A string with runs, sorted and apart; equal to the plain string of the same characters."""

    __slots__ = ("_runs",)
    _runs: tuple[Run, ...]

    def __new__(cls, text: str = "", runs: Sequence[Run] = ()) -> Traced:
        """Take a text and where it came from."""
        made = super().__new__(cls, text)
        made._runs = tuple(runs)
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return concat([self, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return concat([other, self]) if isinstance(other, str) else NotImplemented

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        text = super().__getitem__(key)
        if not isinstance(key, slice):
            start = key.__index__() % len(self)
            return Traced(text, _clipped(self._runs, start, start + 1))
        start, stop, step = key.indices(len(self))
        if step != 1:
            return concat(self[place] for place in range(start, stop, step))
        return Traced(text, _clipped(self._runs, start, stop))

    def strip(self, chars: str | None = None, /) -> str:
        """Without these characters at both ends."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        """Without these characters at the start."""
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        """Without these characters at the end."""
        return self[: len(str.rstrip(self, chars))]

    def removeprefix(self, prefix: str, /) -> str:
        """Without a prefix, if it is there."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        """Without a suffix, if it is there."""
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """What is before the first separator, the separator, and the rest."""
        return self._in_three(super().partition(sep))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """What is before the last separator, the separator, and the rest."""
        return self._in_three(super().rpartition(sep))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """The parts between separators."""
        return self._located(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """The parts between separators, cut from the end."""
        return self._located(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        """The lines."""
        lines, position = [], 0
        for whole, line in zip(super().splitlines(True), super().splitlines(keepends), strict=True):
            lines.append(self[position : position + len(line)])
            position += len(whole)
        return lines

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        """With another text in the place of each `old`."""
        if not old:
            return computed(str.replace, self, old, new, count)
        first, *rest = self.split(old, count)
        return concat([first, *(part for piece in rest for part in (new, piece))])

    @property
    def runs(self) -> tuple[Run, ...]:
        """Where its characters came from."""
        return self._runs

    def _in_three(self, parts: tuple[str, str, str]) -> tuple[str, str, str]:
        first, second = len(parts[0]), len(parts[0]) + len(parts[1])
        return self[:first], self[first:second], self[second:]

    def _located(self, parts: list[str], sep: str | None) -> list[str]:
        located, position = [], 0
        for part in parts:
            start = self.find(part, position) if sep is None else position
            located.append(self[start : start + len(part)])
            position = start + len(part) + len(sep or "")
        return located


def concat(parts: Iterable[object]) -> str:
    """The parts as one text, traced where one of them is."""
    texts = [part if isinstance(part, str) else str(written(part)) for part in parts]
    text = "".join(texts)
    runs: list[Run] = []
    length = 0
    for part in texts:
        for run in part.runs if isinstance(part, Traced) else ():
            _append(runs, Run(run.start + length, run.end + length, run.source, run.offset))
        length += len(part)
    return Traced(text, runs) if runs else text


def written(value: object) -> object:
    """A value as it is written out; a list that holds traced text becomes a traced text."""
    return computed(str, value) if isinstance(value, (list, tuple, dict)) else value


def computed(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:  # noqa: ANN401
    """The result of a function of the language; a new string that was made of traced ones is traced."""
    arguments = tuple(list(value) if isinstance(value, Iterator) else value for value in arguments)
    result = function(*arguments, **keywords)
    if type(result) is not str or not result:
        return result
    sources = [*_traced_in([*arguments, keywords])]
    if not sources:
        return result
    return _recovered(result, sources, function, arguments, keywords)


def _recovered(
    result: str,
    sources: Sequence[Traced],
    function: Callable[..., Any],
    arguments: Sequence[object],
    keywords: dict[str, object],
) -> str:
    """Find the traced parts in a result by computing it with marks around them."""
    if any(map(_MARK.search, [result, *sources])):
        return Traced(result, _whole(result, sources[0]))
    table: list[Traced] = []
    try:
        again = function(
            *[_marked(value, table) for value in arguments],
            **{name: _marked(value, table) for name, value in keywords.items()},
        )
    except (ValueError, TypeError, KeyError, IndexError):
        again = None
    if not isinstance(again, str):
        return Traced(result, _whole(result, sources[0]))
    # JSON in ASCII and `repr` write marks as escapes.
    again = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), again)
    parts: list[str] = []
    position = 0
    for match in _MARKED.finditer(again):
        number = int("".join(f"{_DIGITS.index(digit):x}" for digit in match.group(1)), 16)
        inner = match.group(2)
        source = table[number]
        parts += [
            again[position : match.start()],
            source if inner == source else Traced(inner, _whole(inner, source)),
        ]
        position = match.end()
    found = concat([*parts, again[position:]])
    return found if found == result else Traced(result, _whole(result, sources[0]))


def _traced_in(value: object) -> Iterator[Traced]:
    """The traced strings with any text inside of lists and dicts."""
    if isinstance(value, Traced):
        if value.runs:
            yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _traced_in(pair)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _traced_in(item)


def _marked(value: object, table: list[Traced]) -> object:
    """The value with each traced string as a plain one between marks; its number is its place in `table`."""
    if isinstance(value, Traced) and value.runs:
        table.append(value)
        number = "".join(_DIGITS[int(digit, 16)] for digit in f"{len(table) - 1:x}")
        return f"{_OPEN}{number}{_MID}{str.__str__(value)}{_CLOSE}"
    if isinstance(value, dict):
        return {_marked(key, table): _marked(item, table) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_marked(item, table) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _whole(text: str, source: Traced) -> tuple[Run, ...]:
    """All of a text, from somewhere in a source."""
    return (Run(0, len(text), source.runs[0].source, None),) if source.runs and text else ()


def _clipped(runs: Sequence[Run], start: int, stop: int) -> list[Run]:
    clipped = []
    for run in runs:
        first, last = max(run.start, start), min(run.end, stop)
        if first < last:
            offset = None if run.offset is None else run.offset + first - run.start
            clipped.append(Run(first - start, last - start, run.source, offset))
    return clipped


def _append(runs: list[Run], run: Run) -> None:
    """Add a run behind the others; one that goes on where the last ended becomes a part of it."""
    if runs:
        last = runs[-1]
        goes_on = None if last.offset is None else last.offset + last.end - last.start
        if last.end == run.start and last.source == run.source and run.offset == goes_on:
            runs[-1] = last._replace(end=run.end)
            return
    runs.append(run)
