"""Cut an answer into blocks, so that a sentence stands with what it cites. Knows no scores and no HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from cynosure.insight.sentences import sentence_starts
from cynosure.server.schemas.citations import AnswerCitation, CitedSource
from cynosure.server.schemas.grounding import DOCUMENT
from cynosure.server.schemas.message_documents import (
    BlockLocation,
    CharLocation,
    DocumentBlock,
    Location,
    PlainText,
)

#: Which document a segment is of, and which of its blocks.
_SEGMENT = re.compile(rf"{DOCUMENT}:(\d+)(?:\.(\d+))?")


class CitedText:
    """Hears what is said and what is cited, and hands out blocks: each sentence that cites is one."""

    def __init__(self, documents: Sequence[DocumentBlock]) -> None:
        """Start before the first character of an answer about these documents."""
        self._documents = documents
        self._said = ""
        self._locations: dict[int, list[Location]] = {}

    def hear(self, text: str) -> list[str]:
        """Take what is said next; it comes back in pieces, all but the first of which begin a sentence."""
        start = len(self._said)
        self._said += text
        cuts = [start, *(cut for cut in sentence_starts(self._said) if start < cut), len(self._said)]
        if start and start in sentence_starts(self._said):
            return ["", *_pieces(self._said, cuts)]
        return _pieces(self._said, cuts)

    def cite(self, citations: Sequence[AnswerCitation]) -> None:
        """Take what sentences cite that have ended."""
        for citation in citations:
            found = [self._location(source) for source in citation.sources]
            self._locations[citation.start] = [one for one in found if one is not None]

    def cited_before(self, end: int) -> list[Location]:
        """What sentences cite that begin before a place, each once."""
        return [one for start in sorted(self._locations) if start < end for one in self._locations.pop(start)]

    def blocks(self, text: str, first: int) -> Iterator[tuple[str, list[Location] | None]]:
        """What was said from `first` on, in blocks: neighbours that cite nothing are one."""
        held = ""
        starts = sentence_starts(text)
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            found = self.cited_before(first + end)
            if not found:
                held += text[start:end]
                continue
            if held:
                yield held, None
                held = ""
            yield text[start:end], found
        if held:
            yield held, None

    def _location(self, source: CitedSource) -> Location | None:
        match = _SEGMENT.fullmatch(source.id)
        if match is None or source.start is None or source.end is None:
            return None
        index, block = int(match[1]), int(match[2] or 0)
        document = self._documents[index]
        text = document.blocks[block]
        if isinstance(document.source, PlainText):
            return CharLocation(
                cited_text=text[source.start : source.end],
                document_index=index,
                document_title=document.title,
                start_char_index=source.start,
                end_char_index=source.end,
            )
        return BlockLocation(
            cited_text=text,
            document_index=index,
            document_title=document.title,
            start_block_index=block,
            end_block_index=block + 1,
        )


def _pieces(text: str, cuts: Sequence[int]) -> list[str]:
    return [text[start:end] for start, end in pairwise(cuts)]
