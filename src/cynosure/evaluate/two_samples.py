"""Tell whether two samples may come from one distribution. Knows nothing of what they measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_PERMUTATIONS = 10_000


def share_below(first: Sequence[float], second: Sequence[float]) -> float:
    """How often a value of `first` is below one of `second`; 0.5 where neither tends to be, ties half."""
    below = np.less.outer(np.asarray(first), np.asarray(second)).mean()
    equal = np.equal.outer(np.asarray(first), np.asarray(second)).mean()
    return float(below + equal / 2)


def p_value(
    first: Sequence[float], second: Sequence[float], num_permutations: int = NUM_PERMUTATIONS, seed: int = 0
) -> float:
    """Chance of ranks as unequal as these, or more, if labels meant nothing (Mann-Whitney, by permutation).

    Two-sided; at least `1 / (num_permutations + 1)`.
    """
    values = np.concatenate([np.asarray(first, float), np.asarray(second, float)])
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Equal values share the mean of their ranks.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    expected = len(first) * (len(values) + 1) / 2
    seen = abs(ranks[: len(first)].sum() - expected)
    dice = np.random.default_rng(seed)
    shuffled = dice.permuted(np.tile(ranks, (num_permutations, 1)), axis=1)
    far = np.abs(shuffled[:, : len(first)].sum(axis=1) - expected)
    # Sums of halves are exact: there is nothing to round.
    return float((1 + (far >= seen).sum()) / (num_permutations + 1))
