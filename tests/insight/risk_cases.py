"""A model whose heads tell by rule whether an answer is grounded, and answers of it. Asserts nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cynosure.insight import PromptPart, PromptSegments
from cynosure.insight.judging.risk_fit import RiskExample
from cynosure.insight.probing import DeniedRun, Head

#: The head that looks at documents where it is told to; the others look anywhere.
TELLING: Head = (1, 0)
GROUNDED, MADE_UP = 90, 91
PARTS = [
    PromptPart("doc:1", "doc:1", "document", 0, 0, "a b c", 0, 5),
    PromptPart("doc:2", "doc:2", "document", 0, 1, "d e f", 0, 5),
    PromptPart("user:0", "user:0", "user", 0, 2, "which", 0, 5),
]
#: Sink, no template, two documents and a question.
SEGMENTS = PromptSegments.of(PARTS, [None, 0, 0, 0, 1, 1, 1, 2], [None] * 8)
NUM_PROMPT = 8


class RuledModel:
    """Two layers of two heads."""

    num_heads = (2, 2)
    full_layers = (0, 1)

    def shares(self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]) -> np.ndarray:
        """Noise that the tokens decide; the telling head looks at the first document, or at the sink."""
        dice = np.random.default_rng(list(token_ids))
        found = dice.dirichlet([1.0] * (max(segments) + 1), size=(len(rows), 4)).astype(np.float32)
        # One answer in ten is told the other way round.
        is_grounded = (GROUNDED in token_ids) != (dice.random() < 0.1)
        target = segments[1] if is_grounded else segments[0]
        found[:, 2] = found[:, 2] / 2
        found[:, 2, target] += 0.5
        return found

    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[DeniedRun] = (),
    ) -> np.ndarray:
        """Every token is certain."""
        return np.zeros(len(token_ids) - first, np.float32)


def examples(count: int, seed: int = 0) -> list[RiskExample]:
    """Answers of three tokens, half of them grounded, each of other tokens."""
    dice = np.random.default_rng(seed)
    told = []
    for number in range(count):
        is_grounded = number % 2 == 0
        first, last = dice.integers(10_000, size=2)
        prompt = tuple(range(NUM_PROMPT))
        answer = (100 + int(first), GROUNDED if is_grounded else MADE_UP, 100 + int(last))
        sentence = (NUM_PROMPT, NUM_PROMPT + len(answer))
        told.append(RiskExample((*prompt, *answer), SEGMENTS, sentence, is_grounded))
    return told
