"""Decide when scores have shifted, and bound how often that is said while nothing did. Knows no feature.

Two cumulated sums a chart (CUSUM; Page, Biometrika 1954), one for each way: a sum grows by what a score
exceeds `SLACK`, and never falls below 0. An alarm is a sum at the limit. The limit is not from a table. It is
what the largest sum of all charts stays under in all but `RATE` of stationary streams of `NUM_STATIONARY`
answers, by bootstrap: a reference as large as ours is drawn from ours, which knows the truth as badly as ours
does, and streams are drawn from ours and scored by it. Answers are drawn in blocks: what comes together stays
together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from cynosure.insight.drift.drift_scale import DriftScale, Lengths, Rows

#: Shifts of less than this many standard deviations are left alone; half of what is to be found fast.
SLACK = 0.25
#: Of how many stationary answers, and in which share of such streams there may be an alarm.
NUM_STATIONARY, RATE = 10_000, 0.05
_NUM_FITS, _RUNS_A_FIT, _BLOCK = 15, 10, 25

Sums = Float64[np.ndarray, "2 charts"]


class Cusum:
    """The sums of one stream, upward and downward."""

    def __init__(self, num_charts: int, limit: float) -> None:
        """Start at 0."""
        self.limit = limit
        self.sums: Sums = np.zeros((2, num_charts))

    def add(self, scores: Float64[np.ndarray, " charts"]) -> bool:
        """Take one answer's scores; whether a sum is at the limit.

        Sums are bounded a little above it: an end of a shift is seen about as fast as its begin.
        """
        grown = self.sums + np.stack([scores, -scores]) - SLACK
        self.sums = np.clip(grown, 0.0, 1.5 * self.limit)
        return bool((self.sums >= self.limit).any())

    @property
    def is_calm(self) -> bool:
        """Whether every sum is below half of the limit."""
        return bool((self.sums < self.limit / 2).all())

    def worst(self, num_first: int) -> tuple[int, float]:
        """The chart whose sum is largest, and that sum, negative where it is downward.

        One of the first charts is preferred if it is on its way too: what moved by itself is told by its
        name.
        """
        first = self.sums[:, :num_first]
        among = first if first.max(initial=0.0) >= self.limit / 2 else self.sums
        way, chart = np.unravel_index(int(among.argmax()), among.shape)
        return int(chart), float(among[way, chart]) * (1 if way == 0 else -1)


def course(scores: Float[np.ndarray, "n charts"]) -> Float[np.ndarray, " n"]:
    """The largest sum of any chart after each answer of a stream: what `Cusum` has, unbounded, at once."""
    largest = np.zeros(len(scores), scores.dtype)
    for way in (1, -1):
        walk = np.cumsum(way * scores - scores.dtype.type(SLACK), 0)
        lowest = np.minimum.accumulate(np.minimum(walk, 0), 0)
        largest = np.maximum(largest, (walk - lowest).max(1))
    return largest


def limit_of(rows: Rows, lengths: Lengths, min_stratum: int, seed: int = 0) -> float:
    """The limit for a scale that is fitted on such answers, in their order."""
    dice = np.random.default_rng(seed)
    peaks: list[float] = []
    for _ in range(_NUM_FITS):
        drawn = _blocks(dice, len(rows), len(rows))
        scale = DriftScale.fit(rows[drawn], lengths[drawn], min_stratum)
        scores = scale.scores(rows, lengths).astype(np.float32)
        streams = (scores[_blocks(dice, len(rows), NUM_STATIONARY)] for _ in range(_RUNS_A_FIT))
        peaks += [float(course(stream).max()) for stream in streams]
    return float(np.quantile(peaks, 1 - RATE))


def _blocks(dice: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Places of answers, `length` of `count`, in runs of `_BLOCK`."""
    starts = dice.integers(0, count, length // _BLOCK + 1)
    return ((starts[:, None] + np.arange(_BLOCK)).ravel() % count)[:length]
