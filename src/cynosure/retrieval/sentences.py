"""Cut a text into the parts that may answer: sentences, items, blocks of code. Knows nothing of questions.

A part is a slice of the text, and parts stand in order and never overlap; only white space lies between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from cynosure.retrieval.text import Span, paragraphs

#: Past a full stop, if what follows opens a sentence; CJK stops need no white space.
_SENTENCE_END = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"'`)\]]))(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)\s+(?=[\"'`*(\[:]*[A-Z\d])"
    r"|(?<=[。！？])\s*(?=\S)"
)
_ITEM = re.compile(r"\n\s*(?=(?:[-*+•]|\d+[.)])\s)")
#: An example at the prompt is one part, with what it prints.
_PROMPT = re.compile(r"\s*>>> ")


def sentences(text: str, span: Span | None = None) -> list[Span]:
    """The parts of a text, or of a slice of it; a part does not go past a paragraph's end."""
    begin, end = span or (0, len(text))
    return [
        part
        for start, stop in paragraphs(text[begin:end])
        for part in _parts_of_paragraph(text, (begin + start, begin + stop))
    ]


def widened(parts: Sequence[Span], place: int, fits: Callable[[Span], bool]) -> Span:
    """The part at `place` with as much of what is around it as fits together.

    What follows is taken first, since a sentence explains the one before it, and then what precedes. A part
    that does not fit alone stays whole.
    """
    start, end = parts[place]
    for part in parts[place + 1 :]:
        if not fits((start, part[1])):
            break
        end = part[1]
    for part in reversed(parts[:place]):
        if not fits((part[0], end)):
            break
        start = part[0]
    return start, end


def _parts_of_paragraph(text: str, span: Span) -> Iterator[Span]:
    start, end = span
    if _PROMPT.match(text, start, end):
        yield span
        return
    edges = [start]
    for match in sorted(
        [*_SENTENCE_END.finditer(text, start, end), *_ITEM.finditer(text, start, end)], key=lambda m: m.span()
    ):
        # An item may begin where a sentence ends.
        if match.start() >= edges[-1] and match.end() < end:
            edges += [match.start(), match.end()]
    edges.append(end)
    yield from ((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
