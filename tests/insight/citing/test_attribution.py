"""Ablations find the head that looks where answers come from, and it alone."""

from __future__ import annotations

import numpy as np

from cynosure.insight.citing.attribution import (
    AttributedAnswer,
    SentenceAblations,
    ablate_at_random,
    ablate_one_by_one,
    fit_head_weights,
    heads_in_order,
)
from cynosure.insight.probing import ProbedModel
from tests.insight.reading_models import READER, ReadingModel, answer_of, answers

MODEL = ReadingModel()


def seen(count: int = 12) -> list[SentenceAblations]:
    dice = np.random.default_rng(0)
    return [one for answer in answers(count) for one in ablate_at_random(MODEL, answer, 16, dice)]


def test_the_stand_in_is_what_is_probed() -> None:
    assert isinstance(MODEL, ProbedModel)


def test_each_token_is_of_its_source_or_of_none() -> None:
    answer = AttributedAnswer(tuple(range(8)), 6, ((6, 8),), ((1, 3), (4, 5)))
    assert answer.segments == [2, 0, 0, 2, 1, 2, 2, 2]


def test_the_head_that_reads_gets_the_weight() -> None:
    weights = fit_head_weights(seen(), max_heads=4)
    reader = heads_in_order(MODEL.num_heads).index(READER)
    others = np.delete(weights, reader)
    assert weights[reader] > 5 * np.abs(others).max()
    # 3 nats, over four tokens that give it nine tenths each.
    assert 0.5 < weights[reader] * 3.6 / 3 < 1.1


def test_of_few_heads_the_best_are_kept() -> None:
    weights = fit_head_weights(seen(), max_heads=1)
    heads = zip(heads_in_order(MODEL.num_heads), weights, strict=True)
    assert [head for head, weight in heads if weight] == [READER]


def test_effects_that_were_mixed_up_teach_nothing() -> None:
    """The control: the same shares, and log-probabilities of other ablations."""
    dice = np.random.default_rng(1)
    mixed = [SentenceAblations(one.shares, one.kept, dice.permutation(one.log_probs)) for one in seen(40)]
    honest, idle = (fit_head_weights(one, max_heads=4) for one in (seen(40), mixed))
    assert np.abs(idle).max() < 0.3 * np.abs(honest).max()


def test_each_source_alone_has_its_effect() -> None:
    [told] = ablate_one_by_one(MODEL, answer_of(2, 5))
    np.testing.assert_allclose(told.drops, [0, 0, 3, 0, 0], atol=1e-5)
    [nothing] = ablate_one_by_one(MODEL, answer_of(-1, 5))
    np.testing.assert_allclose(nothing.drops, 0, atol=1e-5)


def test_shares_are_added_up_over_a_sentence() -> None:
    answer = answer_of(0, 2)
    first = answer.first
    halves = AttributedAnswer(
        answer.token_ids, first, ((first, first + 1), (first + 1, first + 4)), answer.sources
    )
    one, three = ablate_one_by_one(MODEL, halves)
    assert one.shares[2, 0] == np.float32(0.9)
    np.testing.assert_allclose(three.shares, 3 * one.shares, rtol=1e-6)
