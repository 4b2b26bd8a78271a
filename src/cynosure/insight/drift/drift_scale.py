"""Turn rows of features into scores that a reference has a mean of 0 and a spread of 1 in. Decides nothing.

Features depend on how long a prompt is, so a row is compared with the reference's rows of like length. Scores
are of three kinds: where each feature's value lies among those (its normal score: the shape of a distribution
does not matter), how features go together (the reference's principal directions, scaled, also those in which
it hardly moves: there a small change is a large score), and how far from the middle a row lies in all of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64, Int64

from cynosure.insight.drift.drift_distance import NUM_QUANTILES, quantiles_of, ranks

#: A direction with less variance than this, where features have 1, is rounding.
_MIN_VARIANCE = 1e-5
#: Less than any feature is told to.
_MIN_DEVIATION = 1e-9
#: No score is larger: one strange answer is no shift.
_MAX_SCORE = 4.0
#: What a feature that never changed in the reference is divided by.
_MIN_SPREAD = 0.1
_NORMAL = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.002, 0.998, NUM_QUANTILES)])

Rows = Float64[np.ndarray, "n features"]
Lengths = Int64[np.ndarray, " n"]
Scores = Float64[np.ndarray, "n charts"]


@dataclass(frozen=True, eq=False)
class Stratum:
    """The reference's answers to prompts of `low` tokens and more, up to the next stratum's.

    `quantiles` and `mean` are of each feature; `spread` is the standard deviation within strata, over all of
    them: one for all, so that what sums to 1 sums to a constant when it is scaled, too.
    """

    low: int
    num: int
    quantiles: Float64[np.ndarray, "features quantiles"]
    mean: Float64[np.ndarray, " features"]
    spread: Float64[np.ndarray, " features"]

    @classmethod
    def of(cls, low: int, rows: Rows, spread: Float64[np.ndarray, " features"]) -> Stratum:
        """What is kept of rows."""
        quantiles = np.stack([quantiles_of(column) for column in rows.T])
        return cls(low, len(rows), quantiles, rows.mean(0), spread)

    def normal(self, rows: Rows) -> Rows:
        """Each value's normal score."""
        places = [ranks(column, kept) for column, kept in zip(rows.T, self.quantiles, strict=True)]
        return np.interp(np.stack(places, 1), np.linspace(0, 1, NUM_QUANTILES), _NORMAL)

    def standard(self, rows: Rows) -> Rows:
        """Each value's distance from the mean, in spreads."""
        return np.divide(rows - self.mean, self.spread, out=np.zeros_like(rows), where=self.spread > 0)


@dataclass(frozen=True, eq=False)
class DriftScale:
    """What rows are scored by: `directions` of standardised features, `mean` and `spread` of raw scores."""

    strata: tuple[Stratum, ...]
    directions: Float64[np.ndarray, "joint features"]
    mean: Float64[np.ndarray, " charts"]
    spread: Float64[np.ndarray, " charts"]

    @classmethod
    def fit(cls, rows: Rows, lengths: Lengths, min_stratum: int) -> DriftScale:
        """Learn from a reference; a stratum has at least `min_stratum` rows, or is the only one."""
        lows = stratum_lows(lengths, min_stratum)
        places = place_of(lengths, lows)
        spread = _spread_within(rows, places)
        strata = tuple(Stratum.of(low, rows[places == at], spread) for at, low in enumerate(lows))
        standard = _by_stratum(strata, places, rows, "standard")
        variances, axes = np.linalg.eigh(np.cov(standard.T, bias=True))
        kept = variances > _MIN_VARIANCE
        directions = (axes[:, kept] / np.sqrt(variances[kept])).T[::-1]
        num_charts = rows.shape[1] + len(directions) + 1
        plain = cls(strata, np.ascontiguousarray(directions), np.zeros(num_charts), np.ones(num_charts))
        raw = plain.scores(rows, lengths)
        return cls(strata, plain.directions, raw.mean(0), np.maximum(raw.std(0), _MIN_SPREAD))

    def scores(self, rows: Rows, lengths: Lengths) -> Scores:
        """A score for each feature, then for each direction, then for the distance from the middle."""
        places = place_of(lengths, [stratum.low for stratum in self.strata])
        normal = _by_stratum(self.strata, places, rows, "normal")
        joint = np.clip(
            _by_stratum(self.strata, places, rows, "standard") @ self.directions.T, -_MAX_SCORE, _MAX_SCORE
        )
        far = (joint**2).mean(1, keepdims=True) if len(self.directions) else np.zeros((len(rows), 1))
        raw = np.concatenate([normal, joint, far], 1)
        return np.clip((raw - self.mean) / self.spread, -_MAX_SCORE, _MAX_SCORE)

    def standard(self, rows: Rows, lengths: Lengths) -> Rows:
        """Values relative to those of like length."""
        places = place_of(lengths, [stratum.low for stratum in self.strata])
        return _by_stratum(self.strata, places, rows, "standard")

    def place(self, num_tokens: int) -> int:
        """The stratum of a prompt."""
        return int(place_of(np.array([num_tokens]), [stratum.low for stratum in self.strata])[0])


def stratum_lows(lengths: Lengths, min_stratum: int) -> list[int]:
    """The least length of each stratum: powers of 2, joined until each has enough; the first begins at 0."""
    bins, counts = np.unique(np.floor(np.log2(np.maximum(lengths, 1))).astype(int), return_counts=True)
    lows, num = [0], 0
    for at, count in zip(bins, counts, strict=True):
        if num >= min_stratum:
            lows.append(2 ** int(at))
            num = 0
        num += int(count)
    if num < min_stratum and len(lows) > 1:
        lows.pop()
    return lows


def place_of(lengths: Lengths, lows: list[int]) -> Lengths:
    """To which stratum each length belongs."""
    return np.searchsorted(np.array(lows), lengths, "right") - 1


def _spread_within(rows: Rows, places: Lengths) -> Float64[np.ndarray, " features"]:
    counts = np.bincount(places)
    means = np.stack([np.bincount(places, column) / counts for column in rows.T], 1)
    spread = (rows - means[places]).std(0)
    # A mean of equal values is equal to them but for rounding.
    return np.where(spread > _MIN_DEVIATION, spread, 0.0)


def _by_stratum(strata: tuple[Stratum, ...], places: Lengths, rows: Rows, what: str) -> Rows:
    found = np.empty_like(rows)
    for at, stratum in enumerate(strata):
        chosen = places == at
        if chosen.any():
            part = rows[chosen]
            found[chosen] = stratum.normal(part) if what == "normal" else stratum.standard(part)
    return found
