"""A logistic fit is the best under its loss, also where cases are apart, or a number tells nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cynosure.insight.logistic import Logistic, chance, fit_logistic


def cases(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(count, 3)) * [1.0, 10.0, 0.01] + [0.0, 5.0, -3.0]
    logits = 2.0 * x[:, 0] - 0.1 * (x[:, 1] - 5) + 0.5
    return x, dice.random(count) < chance(logits)


def slopes(found: Logistic, x: np.ndarray, is_yes: np.ndarray, ridge: float) -> np.ndarray:
    """Torch's gradient of the loss that the docstring states, by the standardised numbers."""
    spread = x.std(axis=0)
    start = [found.intercept + found.coefficients @ x.mean(axis=0), *(found.coefficients * spread)]
    unknowns = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    standard = torch.from_numpy((x - x.mean(axis=0)) / spread)
    logits = standard @ unknowns[1:] + unknowns[0]
    answers = torch.from_numpy(is_yes.astype(float))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, answers, reduction="sum")
    (loss + ridge / 2 * (unknowns[1:] ** 2).sum()).backward()
    assert unknowns.grad is not None
    return unknowns.grad.numpy()


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_nothing_near_is_better(ridge: float) -> None:
    x, is_yes = cases()
    found = fit_logistic(x, is_yes, ridge)
    assert np.abs(slopes(found, x, is_yes, ridge)).max() < 1e-6
    # The control: a step aside is none.
    aside = Logistic(found.intercept + 0.1, found.coefficients)
    assert np.abs(slopes(aside, x, is_yes, ridge)).max() > 0.1


def test_it_finds_what_the_cases_were_drawn_with() -> None:
    found = fit_logistic(*cases(50_000), 1e-3)
    assert found.coefficients[:2] == pytest.approx([2.0, -0.1], abs=0.1)


@pytest.mark.parametrize("ridge", [1e-6, 1.0])
def test_cases_without_overlap_have_a_fit(ridge: float) -> None:
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    found = fit_logistic(x, x[:, 0] > 5, ridge)
    assert np.isfinite(found.coefficients).all()
    assert ((found.logits(x) > 0) == (x[:, 0] > 5)).all()


def test_a_number_that_never_changes_counts_nothing() -> None:
    x, is_yes = cases()
    x[:, 2] = 7.0
    assert fit_logistic(x, is_yes, 1.0).coefficients[2] == 0


def test_answers_of_one_kind_are_no_question() -> None:
    with pytest.raises(AssertionError, match="both answers"):
        fit_logistic(np.ones((3, 1)), np.array([True] * 3), 1.0)


def test_chances_do_not_overflow() -> None:
    assert chance(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]
