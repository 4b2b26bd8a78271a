"""Stand in for models that rank and classify. Computes nothing real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cynosure.core.errors import EmptyInput, InputTooLong
from cynosure.insight import Evidence, WordWeight
from cynosure.server.services import RankingModel, ScoreKind, Scores, Services
from tests.server.fakes import FakeCompleter, services

MAX_TOKENS = 40


@dataclass
class FakeRanker:
    """The logit of a label is how many words of the reading it shares letters with, made up but fixed."""

    name: str = "fake-ranker"
    labels: tuple[str, ...] = ("LABEL_0",)
    kind: ScoreKind = ScoreKind.CHANCES
    max_tokens: int = MAX_TOKENS
    readings: list[tuple[str, ...]] = field(default_factory=list)
    shift: float = 0.0

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        self.readings += readings
        counts = []
        for reading in readings:
            words = " ".join(reading).split()
            if not all(text.strip() for text in reading):
                raise EmptyInput("a text is empty. Write something.")
            if len(words) > MAX_TOKENS:
                raise InputTooLong(
                    f"{len(words)} tokens are too many; the limit is {MAX_TOKENS}. Shorten it."
                )
            counts.append(len(words))
        logits = [[self.logit(reading, label) for label in self.labels] for reading in readings]
        return Scores(np.float32(logits) + np.float32(self.shift), tuple(counts))

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        """The words that a text shares with the query."""
        shared = set(query.split()) & set(text.split())
        words = tuple(
            WordWeight(text.find(word), text.find(word) + len(word), 1.0) for word in sorted(shared)
        )
        return Evidence(words, 0.5, 0.0, 0.5, len(text.split()))

    def logit(self, reading: tuple[str, ...], label: str) -> float:
        """Words that the last text shares with the first, or with the label where it stands alone."""
        first = set((reading[0] if len(reading) == 2 else label).split())
        return float(len(first & set(reading[-1].split())))


def ranking(*rankers: RankingModel, completer: FakeCompleter | None = None) -> Services:
    """One of each, and these."""
    return replace(services(completer), rankers={ranker.name: ranker for ranker in rankers})
