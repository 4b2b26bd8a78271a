"""Say how far two rows of numbers order things alike. Knows nothing of what they measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's: 1 where both order alike, -1 where one is the reverse; ties share their ranks' mean.

    None where it is not defined: fewer than two pairs, or all numbers of a row the same.
    """
    assert len(left) == len(right), "numbers come in pairs"
    if len(left) < 2:
        return None
    one, other = _ranks(left), _ranks(right)
    one -= one.mean()
    other -= other.mean()
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / scale) if scale > 0 else None


def _ranks(numbers: Sequence[float]) -> Float[np.ndarray, " n"]:
    _, groups, counts = np.unique(np.asarray(numbers, float), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[groups].astype(float)
