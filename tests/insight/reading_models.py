"""Stand in for a model that answers from a source, with heads whose work is known. Asserts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cynosure.insight.citing.attribution import AttributedAnswer
from cynosure.insight.probing import DeniedRun, Head

#: Of four heads in two layers, the one that looks where the answer is from.
READER: Head = (1, 0)
#: A source has so many tokens, an answer so many.
SOURCE_LEN, ANSWER_LEN = 3, 4
NOWHERE = -1


@dataclass(frozen=True)
class ReadingModel:
    """Answers from source `token_ids[0]`, or from nowhere: `READER` looks there, and denying it costs 3 nats.

    Another head looks at the source behind, one at all alike, and one at the first token.
    """

    num_heads: tuple[int, ...] = (2, 2)
    full_layers: tuple[int, ...] = (0, 1)

    def shares(self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]) -> np.ndarray:
        num_segments = max(segments) + 1
        num_sources = num_segments - 1
        told = np.zeros((len(rows), 4, num_segments), np.float32)
        gold = token_ids[0] - 1
        told[:, 0, -1] = 1.0
        told[:, 1, :] = 1 / num_segments
        if gold == NOWHERE:
            told[:, 2:, -1] = 1.0
        else:
            told[:, 2, gold] = 0.9
            told[:, 2, -1] = 0.1
            told[:, 3, (gold + 1) % num_sources] = 0.9
            told[:, 3, -1] = 0.1
        return told

    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[DeniedRun] = (),
    ) -> np.ndarray:
        told = np.full(len(token_ids) - first, -0.1, np.float32)
        gold = token_ids[0] - 1
        if any(start == 1 + gold * SOURCE_LEN for start, _ in denied) and gold != NOWHERE:
            told -= 3 / ANSWER_LEN
        return told


def answer_of(gold: int, num_sources: int) -> AttributedAnswer:
    """An answer of one sentence from a source."""
    first = 1 + num_sources * SOURCE_LEN + 1
    ids = (gold + 1, *(7 for _ in range(first - 1 + ANSWER_LEN)))
    sources = tuple((1 + one * SOURCE_LEN, 1 + (one + 1) * SOURCE_LEN) for one in range(num_sources))
    return AttributedAnswer(ids, first, ((first, first + ANSWER_LEN),), sources)


def answers(count: int) -> list[AttributedAnswer]:
    """Answers from sources in turn, every fourth from nowhere."""
    return [answer_of(NOWHERE if number % 4 == 3 else number % 5, 5) for number in range(count)]
