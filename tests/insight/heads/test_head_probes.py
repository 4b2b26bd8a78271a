"""Heads whose rules are known get the scores that follow from them, and habits of place get none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cynosure.insight.heads.head_probes import HeadScores, all_heads, attention_scores, copy_scores
from cynosure.insight.heads.probe_tasks import (
    ProbeCase,
    Vocabulary,
    local_cases,
    needle_cases,
    repeated_cases,
    sink_cases,
)
from cynosure.insight.probing import Head
from tests.insight.rule_model import EVEN, INDUCTION, LOCAL, SINK, RuleModel

WORDS = Vocabulary(tuple(range(100)))
MODEL = RuleModel()
HEADS = all_heads(MODEL.num_heads)


def scores(
    cases: tuple[ProbeCase, ...],
    model: RuleModel = MODEL,
    score: Callable[..., HeadScores] = attention_scores,
    heads: tuple[Head, ...] = HEADS,
) -> HeadScores:
    return score(model, cases, heads, 100, 0)


def test_heads_are_in_order_of_layers() -> None:
    assert HEADS == (SINK, LOCAL, INDUCTION, EVEN)
    assert all_heads([1, 0, 2]) == ((0, 0), (2, 0), (2, 1))


@pytest.mark.parametrize(
    ("make", "best", "share"),
    [(sink_cases, SINK, 1.0), (local_cases, LOCAL, 1.0), (repeated_cases, INDUCTION, 0.75)],
)
def test_the_head_of_the_kind_is_best(
    make: Callable[..., tuple[ProbeCase, ...]], best: tuple[int, int], share: float
) -> None:
    found = scores(make(WORDS, 16, 0))
    assert found.best[0] == best
    # What it gives to other keys is taken off.
    assert share - 0.15 < found.best[1] <= share
    others = [score for head, score in found.above(-1.0, 4) if head != best]
    assert max(others) < found.chance < 0.3
    assert found.above(0.5, 4) == [found.best]


def test_copying_counts_what_is_generated() -> None:
    needles = needle_cases(WORDS, 16, 0)
    found = scores(needles, score=copy_scores)
    assert found.best[0] == INDUCTION
    assert found.best[1] > 0.9
    silent = scores(needles, RuleModel(is_able=False), copy_scores)
    assert not silent.scores.any()


def test_some_heads_alone_are_scored() -> None:
    found = scores(repeated_cases(WORDS, 8, 0), heads=(EVEN, INDUCTION))
    assert found.heads == (EVEN, INDUCTION)
    assert found.best[0] == INDUCTION


def test_heads_that_look_anywhere_are_within_chance() -> None:
    class Anywhere(RuleModel):
        def shares(
            self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
        ) -> np.ndarray:
            dice = np.random.default_rng(list(token_ids))
            drawn = dice.dirichlet(np.full(max(segments) + 1, 0.1), (len(rows), 4)).astype(np.float32)
            drawn *= np.arange(max(segments) + 1) <= np.array(rows)[:, None, None]
            return drawn / drawn.sum(-1, keepdims=True)

    for make in (repeated_cases, sink_cases, local_cases):
        found = scores(make(WORDS, 16, 0), Anywhere())
        assert found.best[1] < 2 * found.chance
