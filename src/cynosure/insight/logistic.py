"""Fit the chance of a yes or no to a few numbers. Knows nothing of what is asked or measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

#: Newton's steps at most, and the largest step of a coefficient at which it is done.
MAX_STEPS, TOLERANCE = 100, 1e-9


@dataclass(frozen=True, eq=False)
class Logistic:
    """The chance of a yes is `1 / (1 + exp(-(intercept + coefficients @ x)))`."""

    intercept: float
    coefficients: Float[np.ndarray, " features"]

    def logits(self, x: Float[np.ndarray, "n features"]) -> Float[np.ndarray, " n"]:
        """The logarithms of the odds."""
        return x @ self.coefficients + self.intercept


def chance(logits: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What log-odds are as a chance, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))


def fit_logistic(
    x: Float[np.ndarray, "n features"], is_yes: Bool[np.ndarray, " n"], ridge: float
) -> Logistic:
    """The likeliest coefficients, by Newton's method (iteratively reweighted least squares).

    Args:
        x: Numbers of each case.
        is_yes: What is to be told from them. Both answers occur.
        ridge: Half of it times each squared coefficient is added to the summed loss, once every number has
            been divided by its spread; the intercept is free. Above 0 there is always one best fit.
    """
    assert ridge > 0, "cases that numbers tell apart without fault have no best fit without a ridge"
    assert 0 < is_yes.sum() < len(is_yes), "a fit needs cases of both answers"
    spread = x.std(axis=0)
    # A number that never changes tells nothing, and gets a coefficient of 0.
    scale = np.where(spread > 0, spread, 1.0)
    centre = x.mean(axis=0)
    design = np.concatenate([np.ones((len(x), 1)), (x - centre) / scale], axis=1)
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0
    answers = is_yes.astype(float)
    found = np.zeros(design.shape[1])
    loss = _loss(design, answers, penalty, found)
    for _ in range(MAX_STEPS):
        chances = chance(design @ found)
        slope = design.T @ (chances - answers) + penalty * found
        curve = (design.T * (chances * (1 - chances))) @ design + np.diag(penalty)
        step = np.linalg.lstsq(curve, slope, rcond=None)[0]
        # A whole step may overshoot far from the best fit.
        while (after := _loss(design, answers, penalty, found - step)) > loss and np.abs(
            step
        ).max() > TOLERANCE:
            step = step / 2
        found, loss = found - step, min(loss, after)
        if np.abs(step).max() <= TOLERANCE:
            break
    coefficients = found[1:] / scale
    return Logistic(float(found[0] - centre @ coefficients), coefficients)


def _loss(
    design: Float[np.ndarray, "n columns"],
    answers: Float[np.ndarray, " n"],
    penalty: Float[np.ndarray, " columns"],
    found: Float[np.ndarray, " columns"],
) -> float:
    logits = design @ found
    return float((np.logaddexp(0.0, logits) - answers * logits).sum() + (penalty * found**2).sum() / 2)
