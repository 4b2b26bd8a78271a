"""Measure how far values lie from quantiles that were kept. Knows nothing of what the values are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

#: Quantiles that are kept of a feature: 0, 1/64, ..., 1.
NUM_QUANTILES = 65
_LEVELS = np.linspace(0.0, 1.0, NUM_QUANTILES)
_NUM_BINS = 10
#: What a bin without a value counts: a logarithm needs some.
_PSEUDO = 0.5

Quantiles = Float64[np.ndarray, " quantiles"]


def quantiles_of(values: Float64[np.ndarray, " n"]) -> Quantiles:
    """What is kept of a sample."""
    return np.quantile(values, _LEVELS)


def ranks(values: Float64[np.ndarray, " n"], quantiles: Quantiles) -> Float64[np.ndarray, " n"]:
    """Where values lie among quantiles, from 0 to 1; one that several quantiles equal lies amid them."""
    below = np.searchsorted(quantiles, values, "left")
    behind = np.searchsorted(quantiles, values, "right")
    last = len(quantiles) - 1
    low = np.clip(below - 1, 0, last - 1)
    width = quantiles[low + 1] - quantiles[low]
    between = low + np.divide(values - quantiles[low], width, out=np.zeros_like(values), where=width > 0)
    place = np.where(behind > below, (below + behind - 1) / 2, between)
    return np.clip(place / last, 0.0, 1.0)


def wasserstein(values: Float64[np.ndarray, " n"], quantiles: Quantiles) -> float:
    """The mean distance by which the reference's values must be moved to be these, in their unit."""
    return float(np.abs(np.quantile(values, _LEVELS) - quantiles).mean())


def psi(values: Float64[np.ndarray, " n"], quantiles: Quantiles) -> float:
    """The population stability index over bins between the reference's deciles.

    A value that several deciles equal has a bin of its own: shares that are 0 are no accident.
    """
    deciles = np.quantile(quantiles, np.linspace(0, 1, _NUM_BINS + 1)[1:-1])
    edges, counts = np.unique(deciles, return_counts=True)
    edges = np.sort(np.concatenate([edges, np.nextafter(edges[counts > 1], -np.inf)]))
    expected, found = (_shares(sample, edges) for sample in (quantiles, values))
    return float(((found - expected) * np.log(found / expected)).sum())


def _shares(values: Float64[np.ndarray, " n"], edges: Float64[np.ndarray, " edges"]) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values, "left"), minlength=len(edges) + 1)
    return (counts + _PSEUDO) / (counts.sum() + _PSEUDO * len(counts))
