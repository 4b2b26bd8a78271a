"""Shape what an encoder attended to in a text: words, and what is no word. Computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from cynosure.insight import Evidence
from cynosure.server.schemas.ask import AttendedWord
from cynosure.server.schemas.wire import WireRequest


class EvidenceParam(WireRequest):
    """Whether the words are told that an encoder attended to; it sees a text once more for it."""

    level: Literal["off", "summary"] = "off"


class EvidenceCoverage(BaseModel):
    """What was watched."""

    reason: str


class EvidenceBody(BaseModel):
    """The words of a text that were attended to, the most attended with weight 1.

    `word_share`, `mark_share` and `sink_share` sum to 1: what words, punctuation and all else received.
    """

    words: list[AttendedWord]
    word_share: float
    mark_share: float
    sink_share: float
    coverage: EvidenceCoverage

    @classmethod
    def of(cls, evidence: Evidence, watched: str) -> EvidenceBody:
        """It as it travels; `watched` says which queries of which layer."""
        words = [AttendedWord(start=word.start, end=word.end, weight=word.weight) for word in evidence.words]
        return cls(
            words=words,
            word_share=evidence.word_share,
            mark_share=evidence.mark_share,
            sink_share=evidence.sink_share,
            coverage=EvidenceCoverage(reason=watched),
        )
