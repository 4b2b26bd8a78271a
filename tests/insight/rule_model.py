"""A model whose heads follow rules that are known, and what it foretells stands on one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from cynosure.insight.probing import DeniedRun, Head

SINK, LOCAL, INDUCTION, EVEN = (0, 0), (0, 1), (1, 0), (1, 1)
LIKELY, UNLIKELY = math.log(0.9), math.log(1 / 64)


@dataclass(frozen=True)
class RuleModel:
    """Of the four heads, each looks as it is called; `needed` are those without which nothing is foretold."""

    needed: tuple[Head, ...] = (INDUCTION,)
    rules: tuple[Head, ...] = (SINK, LOCAL, INDUCTION, EVEN)
    full_layers: tuple[int, ...] = (0, 1)
    is_able: bool = True

    @property
    def num_heads(self) -> tuple[int, ...]:
        return 2, 2

    def shares(
        self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
    ) -> Float32[np.ndarray, "rows heads segments"]:
        found = np.zeros((len(rows), len(self.rules), max(segments) + 1), np.float32)
        for place, row in enumerate(rows):
            for head, rule in enumerate(self.rules):
                for key, share in _looks(rule, token_ids, row).items():
                    found[place, head, segments[key]] += share
        return found

    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[DeniedRun] = (),
    ) -> Float32[np.ndarray, " tokens"]:
        is_whole = self.is_able and not set(without) & set(self.needed)
        said = [
            is_whole and _after(token_ids, at - 1) == token_ids[at] for at in range(first, len(token_ids))
        ]
        return np.array([LIKELY if one else UNLIKELY for one in said], np.float32)


def _looks(rule: Head, token_ids: Sequence[int], row: int) -> dict[int, float]:
    if rule == SINK:
        return {0: 1.0}
    if rule == LOCAL:
        keys = range(max(0, row - 3), row + 1)
        return {key: 1 / len(keys) for key in keys}
    if rule == INDUCTION and token_ids[row] in token_ids[:row]:
        return {token_ids.index(token_ids[row]) + 1: 0.75, row: 0.25}
    return dict.fromkeys(range(row + 1), 1 / (row + 1))


def _after(token_ids: Sequence[int], row: int) -> int | None:
    earlier = token_ids[:row]
    return token_ids[earlier.index(token_ids[row]) + 1] if token_ids[row] in earlier else None
