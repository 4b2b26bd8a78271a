"""Score every head by how far it looks where a task needs it. Knows nothing of tasks or tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cynosure.insight.heads.probe_tasks import ProbeCase
from cynosure.insight.probing import Head, ProbedModel

#: Of a hundred models whose heads look anywhere, one has a head that passes.
_CONFIDENCE = 0.99
#: From here on a token would be generated, whatever else is likely.
LOG_HALF = math.log(0.5)


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of heads, and what the best of them reaches by chance.

    A score is the share of attention on the targets, less what the head gives to keys elsewhere. Chance is
    its 99th percentile over moved targets, for the head that gets most: so many heads are compared at once.
    """

    heads: tuple[Head, ...]
    scores: Float[np.ndarray, " heads"]
    chance: float

    def above(self, threshold: float, limit: int) -> list[tuple[Head, float]]:
        """Heads with a score of the threshold at least, best first."""
        order = np.argsort(-self.scores, kind="stable")[:limit]
        return [
            (self.heads[place], float(self.scores[place]))
            for place in order
            if self.scores[place] >= threshold
        ]

    @property
    def best(self) -> tuple[Head, float]:
        """The head with the largest score."""
        return self.above(-math.inf, 1)[0]


def all_heads(num_heads: Sequence[int]) -> tuple[Head, ...]:
    """Every head of a model, in order of layers."""
    return tuple((layer, head) for layer, count in enumerate(num_heads) for head in range(count))


def attention_scores(
    model: ProbedModel, cases: Sequence[ProbeCase], heads: Sequence[Head], num_draws: int, seed: int
) -> HeadScores:
    """Score heads by the share of attention that targets get."""
    maps = [_map_of(model, case, heads) for case in cases]
    return _scored(maps, cases, heads, num_draws, seed)


def copy_scores(
    model: ProbedModel, cases: Sequence[ProbeCase], heads: Sequence[Head], num_draws: int, seed: int
) -> HeadScores:
    """Score heads as arXiv 2404.15574 does: by how often the key that gets most is the one that is generated.

    A token counts as generated where the model gives it half of the probability or more.
    """
    maps = []
    for case in cases:
        shares = _map_of(model, case, heads)
        top = np.zeros_like(shares)
        np.put_along_axis(top, shares.argmax(-1)[..., None], 1.0, -1)
        is_said = model.log_probs(case.token_ids, case.first) >= LOG_HALF
        answers = np.array(case.rows) + 1 - case.first
        maps.append(top * is_said[answers][:, None, None])
    return _scored(maps, cases, heads, num_draws, seed)


def _map_of(
    model: ProbedModel, case: ProbeCase, heads: Sequence[Head]
) -> Float[np.ndarray, "rows heads keys"]:
    """What each row attended to, token by token."""
    every = {head: place for place, head in enumerate(all_heads(model.num_heads))}
    shares = model.shares(case.token_ids, case.rows, range(len(case.token_ids)))
    return shares[:, [every[head] for head in heads]]


def _scored(
    maps: Sequence[np.ndarray], cases: Sequence[ProbeCase], heads: Sequence[Head], num_draws: int, seed: int
) -> HeadScores:
    dice = np.random.default_rng((seed, 3))
    on_targets, elsewhere = [], []
    for shares, case in zip(maps, cases, strict=True):
        rows, targets = np.array(case.rows), np.array(case.targets)
        moves = dice.integers(1, len(case.token_ids) - 1, num_draws)
        on_targets.append(_given(shares, targets[None])[0])
        elsewhere.append(_given(shares, _moved(rows, targets, moves)))
    by_draw = np.mean(elsewhere, axis=0)
    usual = by_draw.mean(axis=0)
    chance = np.quantile((by_draw - usual).max(axis=1), _CONFIDENCE)
    return HeadScores(tuple(heads), np.mean(on_targets, axis=0) - usual, float(chance))


def _given(
    shares: Float[np.ndarray, "rows heads keys"], targets: Int[np.ndarray, "draws rows targets"]
) -> Float[np.ndarray, "draws heads"]:
    """The share that the targets of each row got together, on average over rows."""
    by_row = [row.T[keys].sum(axis=1) for row, keys in zip(shares, targets.swapaxes(0, 1), strict=True)]
    return np.mean(by_row, axis=0)


def _moved(
    rows: Int[np.ndarray, " rows"], targets: Int[np.ndarray, "rows targets"], moves: Int[np.ndarray, " draws"]
) -> Int[np.ndarray, "draws rows targets"]:
    """The targets of all rows moved alike, round the keys that each sees; never to the first token.

    What keeps its distance to the row still does, elsewhere: a head with a habit of place is no exception.
    """
    return 1 + (targets - 1 + moves[:, None, None]) % rows[:, None]
