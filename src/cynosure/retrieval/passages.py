"""Cut docstrings into passages that fit an embedder. Knows nothing of vectors or storage.

An object has a passage for its summary alone, since a question is closest to the one line that says what
the object is for, and, where there is more, passages that cover the whole docstring. Each is a slice of
the docstring and lies under a heading, the object's name in words. Nothing is dropped: what does not fit
goes into the next passage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from cynosure.core.errors import InputTooLong
from cynosure.retrieval.documents import REFERENCE, Entry, Passage
from cynosure.retrieval.text import Span, identifier_words, paragraphs, summary_span

CountTokens = Callable[[str], int]

#: How many characters a full passage has, about: a guess that decides how long cutting takes, nothing else.
_LIKELY = 900
_SEPARATORS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n\s*"), re.compile(r"\s+"))


def cut(entries: Sequence[Entry], count_tokens: CountTokens, max_tokens: int) -> list[Passage]:
    """All passages of all entries, in order.

    Args:
        entries: What to cut.
        count_tokens: Tokens of a text, special tokens included.
        max_tokens: The most that a passage with its heading may have.

    Raises:
        InputTooLong: A heading alone leaves no room for one character.
    """
    return [
        Passage(index, start, end, heading)
        for index, entry in enumerate(entries)
        for heading in [f"{identifier_words(entry.name)}: "]
        for start, end in spans(entry, heading, count_tokens, max_tokens)
    ]


def spans(entry: Entry, heading: str, count_tokens: CountTokens, max_tokens: int) -> list[Span]:
    """The slices of one docstring: its summary first, then all of it where that is more."""
    doc = entry.doc
    whole = paragraphs(doc)

    def fits(span: Span) -> bool:
        return count_tokens(heading + doc[span[0] : span[1]]) <= max_tokens

    if entry.source == REFERENCE and entry.kind == "module":
        # A section opens with its title, which says too little alone.
        return list(pack(doc, (whole[0][0], whole[-1][1]), fits))
    summary = summary_span(doc, entry.name)
    found = list(pack(doc, summary, fits))
    if len(whole) > 1 or whole[0] != summary:
        found += [span for span in pack(doc, (whole[0][0], whole[-1][1]), fits) if span not in found]
    return found


def pack(doc: str, span: Span, fits: Callable[[Span], bool], level: int = 0) -> Iterator[Span]:
    """Cut a span into as few slices that fit as cutting at the best separators allows.

    Paragraphs are kept whole where they can be, then lines, then words, then characters.

    Raises:
        InputTooLong: Not even one character fits.
    """
    if fits(span):
        yield span
        return
    if span[1] - span[0] <= 1:
        raise InputTooLong(
            f"the heading of a passage leaves no room for the character at {span[0]}; "
            "take an embedder with a larger max_tokens."
        )
    pieces = _pieces(doc, span, level)
    first = 0
    while first < len(pieces):
        last = _last_that_fits(pieces, first, fits)
        yield from pack(doc, (pieces[first][0], pieces[last][1]), fits, level + 1)
        first = last + 1


def _last_that_fits(pieces: Sequence[Span], first: int, fits: Callable[[Span], bool]) -> int:
    """The last piece that fits together with all from the first on; the first alone may not.

    Counting tokens is what cutting takes its time for: so it begins near the likely end.
    """
    start = pieces[first][0]
    last = first
    while last + 1 < len(pieces) and pieces[last + 1][1] - start <= _LIKELY:
        last += 1
    while last > first and not fits((start, pieces[last][1])):
        last -= 1
    if last > first or fits(pieces[first]):
        while last + 1 < len(pieces) and fits((start, pieces[last + 1][1])):
            last += 1
    return last


def _pieces(doc: str, span: Span, level: int) -> list[Span]:
    """The parts of a span between separators of a level; halves where no separator is left."""
    start, end = span
    if level >= len(_SEPARATORS):
        middle = (start + end) // 2
        return [(start, middle), (middle, end)]
    edges = [start]
    for match in _SEPARATORS[level].finditer(doc, start, end):
        if start < match.start() and match.end() < end:
            edges += [match.start(), match.end()]
    edges.append(end)
    return list(zip(edges[::2], edges[1::2], strict=True))
