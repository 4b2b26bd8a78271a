"""Fit the weights of citations to ablations of a model. Knows nothing of files, servers or tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cynosure.core.errors import InputError
from cynosure.insight.citing.attribution import (
    AttributedAnswer,
    SourceEffects,
    ablate_at_random,
    ablate_one_by_one,
    fit_head_weights,
    heads_in_order,
)
from cynosure.insight.citing.citation_weights import CitationWeights, shares_of_scores
from cynosure.insight.citing.citations import citable_parts
from cynosure.insight.judging.risk import tokens_in
from cynosure.insight.logistic import Logistic, chance, fit_logistic
from cynosure.insight.probing import ProbedModel
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.insight.report import ReadToken
from cynosure.insight.sentences import sentence_spans

#: Told what is done, and how much of it there is.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CitationFit:
    """How weights are fitted.

    - `num_ablations`: random ones of each answer that is learned from.
    - `max_heads`: how many heads may have a weight; each has to be watched where a server cites.
    - `min_effect_nats`: what a sentence loses without a source that counts as one.
    - `max_false`: the share of sentences without a source that may get a citation, of those calibrated on.
    """

    num_ablations: int = 24
    max_heads: int = 16
    min_effect_nats: float = 1.0
    max_false: float = 0.02
    seed: int = 0


def answer_to_learn_from(
    segments: PromptSegments, prompt_ids: Sequence[int], tokens: Sequence[ReadToken], text: str
) -> AttributedAnswer | None:
    """An answer as ablations need it, whose sources are what could be cited.

    Args:
        segments: Of the prompt, cut as it is to be cited.
        prompt_ids: The prompt.
        tokens: Of the answer, in order.
        text: The answer.

    Returns:
        None where nothing was said, or there is nothing to cite.
    """
    places = {id(token): len(prompt_ids) + place for place, token in enumerate(tokens)}
    sentences = []
    for span in sentence_spans(text):
        own = tokens_in(span, tokens)
        if own:
            sentences.append((places[id(own[0])], places[id(own[-1])] + 1))
    citable = set(citable_parts(segments))
    sources = tuple((start, end) for part, start, end in segments.runs if part in citable)
    if not sentences or not sources:
        return None
    ids = (*prompt_ids, *(token.token_id for token in tokens))
    return AttributedAnswer(ids, len(prompt_ids), tuple(sentences), sources)


def fit_citations(
    model: ProbedModel,
    learned_from: Sequence[AttributedAnswer],
    calibrated_on: Sequence[AttributedAnswer],
    fitted_on: str,
    recipe: CitationFit | None = None,
    report: Report = lambda stage, done, total: None,
) -> CitationWeights:
    """Learn which heads tell what a model's answers are drawn from.

    Args:
        model: Whose heads.
        learned_from: Answers whose random ablations give the weights.
        calibrated_on: Others, whose sources are denied one by one, to learn what a score means.
        fitted_on: Which prompts they are, in words.
        recipe: How.
        report: Told how far it is.

    Raises:
        InputError: no source of an answer matters to this model, or every one does: nothing can be learned.
    """
    recipe = recipe or CitationFit()
    dice = np.random.default_rng(recipe.seed)
    seen, effects = [], list[SourceEffects]()
    for number, answer in enumerate(learned_from, 1):
        seen += ablate_at_random(model, answer, recipe.num_ablations, dice)
        report("Denying random sources", number, len(learned_from))
    weights = fit_head_weights(seen, max_heads=recipe.max_heads)
    for number, answer in enumerate(calibrated_on, 1):
        effects += ablate_one_by_one(model, answer)
        report("Denying each source", number, len(calibrated_on))
    return weights_with_chances(model, weights, effects, fitted_on, recipe)


def weights_with_chances(
    model: ProbedModel,
    weights: Float[np.ndarray, " heads"],
    effects: Sequence[SourceEffects],
    fitted_on: str,
    recipe: CitationFit,
) -> CitationWeights:
    """Learn what scores under given weights say of effects, and from which chance on to cite.

    Raises:
        InputError: the effects are all large, or all small.
    """
    scores = [weights @ one.shares for one in effects]
    matters = [one.drops >= recipe.min_effect_nats for one in effects]
    numbers = np.concatenate([_numbers(score) for score in scores])
    yes = np.concatenate(matters)
    if not 0 < yes.sum() < len(yes):
        raise InputError(
            f"of {len(yes)} sources of answers, {int(yes.sum())} matter to this model by "
            f"{recipe.min_effect_nats:g} nats; citations are learned from some that do and some that do not. "
            "This model does not answer from its prompt, or the prompts do not suit it."
        )
    fitted = fit_logistic(numbers, yes, ridge=1.0)
    kept = np.flatnonzero(weights)
    order = heads_in_order(model.num_heads)
    return CitationWeights(
        heads=tuple(order[place] for place in kept),
        weights=tuple(float(weights[place]) for place in kept),
        intercept=fitted.intercept,
        of_score=float(fitted.coefficients[0]),
        of_share=float(fitted.coefficients[1]),
        min_score=_min_score(fitted, scores, matters, recipe.max_false),
        min_effect_nats=recipe.min_effect_nats,
        fitted_on=fitted_on,
    )


def _numbers(scores: Float[np.ndarray, " sources"]) -> Float[np.ndarray, "sources 2"]:
    return np.stack([scores, shares_of_scores(scores)], axis=1)


def _min_score(
    fitted: Logistic,
    scores: Sequence[Float[np.ndarray, " sources"]],
    matters: Sequence[Bool[np.ndarray, " sources"]],
    max_false: float,
) -> float:
    """The least chance, from a half on, at which few enough sentences without a source would cite one."""
    best = [
        float(chance(fitted.logits(_numbers(score))).max())
        for score, yes in zip(scores, matters, strict=True)
        if not yes.any()
    ]
    return max(0.5, float(np.quantile(best, 1 - max_false))) if best else 0.5
