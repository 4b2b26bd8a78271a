"""Blocks of an answer, put together, are the answer, and a sentence stands with what it cites."""

from __future__ import annotations

import pytest

from cynosure.insight.sentences import sentence_starts
from cynosure.server.answers.cited_blocks import CitedText
from cynosure.server.schemas.citations import AnswerCitation, CitedSource
from cynosure.server.schemas.message_documents import BlockLocation, CharLocation, DocumentBlock

TEXT = "Red fox. It is. Two foxes.  And more"
PLAIN = DocumentBlock.model_validate(
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A fox 🦊 is red."}}
)
BLOCKS = DocumentBlock.model_validate(
    {
        "type": "document",
        "title": "T",
        "source": {"type": "content", "content": [{"type": "text", "text": one} for one in ("a", "b c")]},
    }
)


def source(id: str, start: int, end: int) -> CitedSource:
    return CitedSource(type="document", id=id, message=0, part=0, start=start, end=end, score=0.9)


CITATIONS = [
    AnswerCitation(
        start=0, end=8, text="Red fox.", sources=[source("doc:0", 2, 7), source("document:0", 0, 1)]
    ),
    AnswerCitation(start=16, end=26, text="Two foxes.", sources=[source("doc:1.1", 0, 3)]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9, 50])
def test_pieces_begin_sentences_however_they_come(size: int) -> None:
    heard, blocks = CitedText([]), [""]
    for start in range(0, len(TEXT), size):
        first, *others = heard.hear(TEXT[start : start + size])
        blocks[-1] += first
        blocks += others
    starts = sentence_starts(TEXT)
    assert blocks == [TEXT[start:end] for start, end in zip(starts, [*starts[1:], len(TEXT)], strict=True)]


def test_a_sentence_that_cites_is_a_block() -> None:
    heard = CitedText([PLAIN, BLOCKS])
    heard.cite(CITATIONS)
    blocks = list(heard.blocks(TEXT, 0))
    assert [text for text, _ in blocks] == ["Red fox. ", "It is. ", "Two foxes.  ", "And more"]
    (_, first), (_, second), (_, third), (_, last) = blocks
    assert first == [
        CharLocation(
            cited_text="fox 🦊", document_index=0, document_title=None, start_char_index=2, end_char_index=7
        )
    ]
    assert second is last is None
    assert third == [
        BlockLocation(
            cited_text="b c", document_index=1, document_title="T", start_block_index=1, end_block_index=2
        )
    ]


def test_what_a_sentence_cites_is_told_once_it_has_ended() -> None:
    heard = CitedText([PLAIN, BLOCKS])
    heard.cite(CITATIONS[:1])
    assert len(heard.cited_before(9)) == 1
    assert heard.cited_before(9) == []
    heard.cite(CITATIONS[1:])
    assert heard.cited_before(16) == []
    assert len(heard.cited_before(28)) == 1
