"""Say how well scores tell cases apart, and whether chances hold. Knows nothing of what they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cynosure.core.errors import InputError

#: Into how many classes of like size chances are put to compare them with what came.
NUM_BINS = 10


def auroc(scores: Sequence[float], is_positive: Sequence[bool]) -> float:
    """How often a positive case has a higher score than a negative one; ties count half.

    The area under the receiver operating characteristic, which is the statistic of Mann and Whitney.

    Raises:
        InputError: there are no positive cases, or no others, or scores that are no numbers.
    """
    values, positive = _checked(scores, is_positive)
    num_positive = int(positive.sum())
    num_others = len(values) - num_positive
    if not num_positive or not num_others:
        raise InputError(
            f"there are {num_positive} positive cases of {len(values)}; both kinds are needed. Take more."
        )
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Equal values share the mean of their ranks.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    above = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_others))


def calibration_error(
    chances: Sequence[float], is_positive: Sequence[bool], num_bins: int = NUM_BINS
) -> float:
    """How far chances are from what came, on average over the cases (expected calibration error).

    Cases are sorted by their chance and cut into classes of like size; equal chances stay together.

    Raises:
        InputError: there are no cases, or a chance is not within 0..1.
    """
    values, positive = _checked(chances, is_positive)
    if not len(values) or values.min() < 0 or values.max() > 1:
        raise InputError("chances are numbers of 0..1, at least one. Correct them.")
    edges = np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)[1:-1], method="lower"))
    bins = np.searchsorted(edges, values, side="left")
    gaps = [abs(float(values[bins == one].sum() - positive[bins == one].sum())) for one in np.unique(bins)]
    return sum(gaps) / len(values)


def _checked(scores: Sequence[float], is_positive: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    values, positive = np.asarray(scores, float), np.asarray(is_positive, bool)
    if len(values) != len(positive) or not np.isfinite(values).all():
        raise InputError(
            f"there are {len(values)} scores for {len(positive)} cases, and all must be finite. Correct them."
        )
    return values, positive
