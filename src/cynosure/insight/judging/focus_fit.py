"""Fit weights of heads that tell an answer which followed a document from one that did not. Knows no tensors.

Every head is looked at, on answers whose truth is known; those that tell most are kept and fitted once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cynosure.core.errors import InputError
from cynosure.insight.judging.focus import TRUSTED, UNTRUSTED, FocusModel
from cynosure.insight.logistic import chance, fit_logistic
from cynosure.insight.probing import ProbedModel
from cynosure.insight.prompt_segments import PromptSegments

#: Heads that are kept at most.
MAX_HEADS = 16
#: How much squared weights count against the fit.
RIDGE = 1.0
#: Of answers that may pass, so many in a hundred are stopped at the threshold.
FALSE_STOPS = 0.01


@dataclass(frozen=True, eq=False)
class FocusSample:
    """What each head gave to trusted parts, less what to untrusted ones, on average over an answer's tokens.

    - `is_safe`: whether the answer follows nothing that an untrusted part says, or nothing of it asks.
    """

    difference: Float64[np.ndarray, " heads"]
    is_safe: bool


def sample_of(
    model: ProbedModel,
    segments: PromptSegments,
    prompt_ids: Sequence[int],
    answer_ids: Sequence[int],
    *,
    is_safe: bool,
) -> FocusSample:
    """Look at one answer, without the token that ends it: gates judge what is spelled."""
    owners = [*segments.owners, *[len(segments.parts)] * len(answer_ids)]
    rows = range(len(prompt_ids) - 1, len(prompt_ids) + len(answer_ids) - 1)
    shares = model.shares([*prompt_ids, *answer_ids], list(rows), owners).astype(float)
    signs = np.zeros(shares.shape[2])
    for place, part in enumerate(segments.parts):
        if place < len(signs):
            signs[place] = float(part.role in TRUSTED) - float(part.role in UNTRUSTED)
    return FocusSample((shares @ signs).mean(axis=0), is_safe)


def fit_focus(
    num_heads: Sequence[int], samples: Sequence[FocusSample], told: dict[str, object] | None = None
) -> FocusModel:
    """Weights, and a threshold, that tell safe answers from others.

    Args:
        num_heads: Query heads of each layer.
        samples: Looked at answers.
        told: What they are, for whoever reads the profile.

    Raises:
        InputError: there are no safe answers, or no others.
    """
    is_safe = np.array([sample.is_safe for sample in samples])
    if not is_safe.any() or is_safe.all():
        raise InputError(
            f"of {len(samples)} answers {int(is_safe.sum())} are safe; a fit needs some that are, and some "
            "that are not. Give both."
        )
    x = np.array([sample.difference for sample in samples])
    first = fit_logistic(x, is_safe, RIDGE)
    telling = np.argsort(-np.abs(first.coefficients) * x.std(axis=0), kind="stable")[:MAX_HEADS]
    chosen = np.sort(telling)
    fitted = fit_logistic(x[:, chosen], is_safe, RIDGE)
    safe = chance(fitted.logits(x[is_safe][:, chosen]))
    heads = [(layer, head) for layer, count in enumerate(num_heads) for head in range(count)]
    counts: dict[str, object] = {"answers": len(samples), "safe": int(is_safe.sum())}
    return FocusModel.model_validate(
        {
            "heads": tuple(heads[place] for place in chosen),
            "weights": tuple(fitted.coefficients.tolist()),
            "intercept": fitted.intercept,
            "threshold": float(np.quantile(safe, FALSE_STOPS)),
            "fitted_on": (told or {}) | counts,
        }
    )
