"""Fit the risk of a sentence to labelled answers of a model. Knows nothing of where answers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from cynosure.core.errors import InputError
from cynosure.insight.judging.risk import RiskModel
from cynosure.insight.judging.sentence_features import (
    FITTED,
    RETRIEVED,
    DocumentParts,
    Fold,
    given_documents,
    sentence_features,
)
from cynosure.insight.logistic import Logistic, fit_logistic
from cynosure.insight.probing import Head, ProbedModel
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.insight.sentences import Span

#: Fewer answers of either kind say too little.
MIN_EXAMPLES = 50
#: The ridge of every fit, in cases; of the calibration, which has one number, far less.
RIDGE, CALIBRATION_RIDGE = 1.0, 1e-3
#: Of each feature the range that holds all but so many of the answers, and how much wider it is told.
OUTSIDE, MARGIN = 0.01, 0.1
#: In how many parts answers are cut, each judged by a fit to the others: a calibration that flatters nobody.
NUM_PARTS = 5


@dataclass(frozen=True, eq=False)
class RiskExample:
    """A sentence of an answer that is known to be grounded, or not to be.

    - `token_ids`: prompt and answer, at least until the sentence's end; `segments`: of the prompt.
    - `sentence`: its tokens `start <= token < end`.
    """

    token_ids: tuple[int, ...]
    segments: PromptSegments
    sentence: Span
    is_grounded: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """What every head gave to every part while a sentence was written, and to what was generated before.

    `num_tokens` are the prompt's.
    """

    shares: Float32[np.ndarray, "tokens heads parts"]
    documents: tuple[DocumentParts, ...]
    num_tokens: int

    @classmethod
    def of(cls, model: ProbedModel, example: RiskExample) -> Seen:
        """Look at one sentence.

        Raises:
            InputError: its prompt has no documents.
        """
        documents = given_documents(example.segments)
        if not documents:
            raise InputError(
                "an answer's prompt has no documents, which it could be grounded in. Leave it out."
            )
        start, end = example.sentence
        num_parts = len(example.segments.parts) + 1
        owners = np.full(end, num_parts - 1)
        owners[: len(example.segments.owners)] = example.segments.owners
        # A probe's segments are dense, and some parts have no tokens.
        present, dense = np.unique(owners, return_inverse=True)
        found = model.shares(example.token_ids[:end], range(start - 1, end - 1), dense.tolist())
        shares = np.zeros((*found.shape[:2], num_parts), np.float32)
        shares[..., present] = found
        return cls(shares, documents, len(example.segments.owners))

    def fold(self, weights: Float[np.ndarray, " heads"]) -> Fold:
        """Its shares under weights of all heads."""
        return np.einsum("h,thp->tp", weights, self.shares)

    @property
    def lookback(self) -> Float[np.ndarray, " heads"]:
        """What each head gave to documents, on average over the sentence."""
        given = [index for parts in self.documents for index in parts]
        return self.shares[..., given].sum(axis=-1).mean(axis=0).astype(float)

    def features(self, risk: RiskModel, heads: Sequence[Head]) -> Float[np.ndarray, " features"]:
        """What a fit reads off it; `heads` are all of the model, in order of layers."""
        weights = dict(zip(risk.heads, risk.weights, strict=True))
        fold = self.fold(np.array([weights.get(head, 0.0) for head in heads]))
        mean = _mean_of(risk.retrieval, heads)
        return sentence_features(self.documents, fold, None if mean is None else self.fold(mean))


def _mean_of(retrieval: Sequence[Head], heads: Sequence[Head]) -> Float[np.ndarray, " heads"] | None:
    """Weights of all heads whose sum is the mean over some; None where there are none."""
    return np.array([head in retrieval for head in heads], float) / len(retrieval) if retrieval else None


@dataclass(frozen=True, eq=False)
class _Fit:
    """Weights of all heads, and what is made of the features that they give."""

    weights: Float[np.ndarray, " heads"]
    retrieval: Float[np.ndarray, " heads"] | None
    judge: Logistic

    @classmethod
    def of(
        cls,
        seen: Sequence[Seen],
        is_grounded: Bool[np.ndarray, " n"],
        retrieval: Float[np.ndarray, " heads"] | None,
        num_heads: int,
    ) -> _Fit:
        lookback = np.stack([one.lookback for one in seen])
        every = fit_logistic(lookback, is_grounded, RIDGE).coefficients
        # What a head decides is its coefficient times how much it varies.
        order = np.argsort(-np.abs(every) * lookback.std(axis=0), kind="stable")
        chosen = np.sort(order[:num_heads])
        weights = np.zeros(lookback.shape[1])
        weights[chosen] = fit_logistic(lookback[:, chosen], is_grounded, RIDGE).coefficients
        weights /= np.abs(weights).sum()
        features = _features(seen, weights, retrieval)
        return cls(weights, retrieval, fit_logistic(features, ~is_grounded, RIDGE))

    def features(self, seen: Sequence[Seen]) -> Float[np.ndarray, "n features"]:
        return _features(seen, self.weights, self.retrieval)

    def logits(self, seen: Sequence[Seen]) -> Float[np.ndarray, " n"]:
        return self.judge.logits(self.features(seen))


def _features(
    seen: Sequence[Seen], weights: Float[np.ndarray, " heads"], retrieval: Float[np.ndarray, " heads"] | None
) -> Float[np.ndarray, "n features"]:
    return np.stack(
        [
            sentence_features(
                one.documents, one.fold(weights), None if retrieval is None else one.fold(retrieval)
            )
            for one in seen
        ]
    )


def fit_risk(
    model: ProbedModel,
    examples: Sequence[RiskExample],
    fitted_on: Mapping[str, object],
    *,
    retrieval: Sequence[Head] = (),
    num_heads: int = 16,
    seed: int = 0,
) -> RiskModel:
    """Fit weights of heads, what is made of their features, and a calibration.

    Args:
        model: Whose answers they are.
        examples: Answers of both kinds, in the shares in which they are met: a risk is a chance among such.
        fitted_on: What they are, for whoever reads the profile.
        retrieval: Heads that retrieve, which the profile has a group of; may be none.
        num_heads: How many heads are weighed at most.
        seed: Of how answers are cut into parts.

    Raises:
        InputError: there are too few answers of a kind, or one without documents.
    """
    is_grounded = np.array([example.is_grounded for example in examples], bool)
    check_enough(is_grounded)
    seen = [Seen.of(model, example) for example in examples]
    heads = [(layer, head) for layer, count in enumerate(model.num_heads) for head in range(count)]
    return fit_seen(seen, is_grounded, heads, fitted_on, retrieval=retrieval, num_heads=num_heads, seed=seed)


def check_enough(is_grounded: Bool[np.ndarray, " n"]) -> None:
    """Check that a fit has sentences of both kinds to learn from.

    Raises:
        InputError: it has not.
    """
    grounded, others = int(is_grounded.sum()), int((~is_grounded).sum())
    if min(grounded, others) < MIN_EXAMPLES:
        raise InputError(
            f"there are {grounded} grounded sentences and {others} others; the least is {MIN_EXAMPLES} of "
            "each. Label more."
        )


def fit_seen(
    seen: Sequence[Seen],
    is_grounded: Bool[np.ndarray, " n"],
    heads: Sequence[Head],
    fitted_on: Mapping[str, object],
    *,
    retrieval: Sequence[Head] = (),
    num_heads: int = 16,
    seed: int = 0,
) -> RiskModel:
    """Fit to sentences that were looked at before; `heads` are all of the model, in order of layers."""
    mean = _mean_of(retrieval, heads)
    calibration = _calibration(seen, is_grounded, mean, num_heads, seed)
    fit = _Fit.of(seen, is_grounded, mean, num_heads)
    num_tokens = [one.num_tokens for one in seen]
    num_documents = [len(one.documents) for one in seen]
    weighed = np.flatnonzero(fit.weights).tolist()
    counts = {"num_grounded": int(is_grounded.sum()), "num_ungrounded": int((~is_grounded).sum())}
    return RiskModel.model_validate(
        {
            "heads": tuple(heads[place] for place in weighed),
            "weights": tuple(fit.weights[weighed].tolist()),
            "retrieval": tuple(sorted(retrieval)),
            "features": FITTED if mean is None else FITTED + RETRIEVED,
            "intercept": fit.judge.intercept,
            "coefficients": tuple(fit.judge.coefficients.tolist()),
            "calibration": calibration,
            "ranges": tuple(_range(column) for column in fit.features(seen).T),
            "num_tokens": (min(num_tokens), max(num_tokens)),
            "num_documents": (min(num_documents), max(num_documents)),
            "fitted_on": {**fitted_on, **counts},
        }
    )


def _calibration(
    seen: Sequence[Seen],
    is_grounded: Bool[np.ndarray, " n"],
    retrieval: Float[np.ndarray, " heads"] | None,
    num_heads: int,
    seed: int,
) -> tuple[float, float]:
    """What log-odds of sentences that a fit has not seen must be multiplied by, and what is added (Platt)."""
    parts = np.random.default_rng(seed).permutation(len(seen)) % NUM_PARTS
    logits = np.zeros(len(seen))
    for part in range(NUM_PARTS):
        others, own = np.flatnonzero(parts != part).tolist(), np.flatnonzero(parts == part).tolist()
        fit = _Fit.of([seen[place] for place in others], is_grounded[others], retrieval, num_heads)
        logits[own] = fit.logits([seen[place] for place in own])
    found = fit_logistic(logits[:, None], ~is_grounded, CALIBRATION_RIDGE)
    return float(found.coefficients[0]), found.intercept


def _range(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    low, high = np.quantile(values, [OUTSIDE / 2, 1 - OUTSIDE / 2])
    wider = MARGIN * (high - low)
    return float(low - wider), float(high + wider)
