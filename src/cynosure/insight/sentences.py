"""Find the sentences of a text. Knows nothing of tokens."""

from __future__ import annotations

import re

Span = tuple[int, int]

#: A sentence ends behind these, or with its line.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[。！？])|\n+")


def sentence_starts(text: str) -> list[int]:
    """Where its sentences begin, the first at 0; what separates two belongs to the one before."""
    cuts = [found.end() for found in _SENTENCE_END.finditer(text)]
    return [0, *(cut for cut in cuts if 0 < cut < len(text))]


def sentence_spans(text: str) -> list[Span]:
    """Where its sentences begin and end, without the white space around them; none of a blank text."""
    starts = sentence_starts(text)
    spans = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        sentence = text[start:end]
        if sentence.strip():
            first = start + len(sentence) - len(sentence.lstrip())
            spans.append((first, start + len(sentence.rstrip())))
    return spans
