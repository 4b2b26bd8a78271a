"""Test the fusion: passages collapse into objects, and each witness moves the score by its weight."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.retrieval.documents import REFERENCE, Entry
from cynosure.retrieval.rank import (
    LINE,
    WEIGHTS,
    Calibration,
    Ranking,
    Weights,
    Witnesses,
    best_passages,
    fuse,
    prior_of,
    ranks,
    rerank,
)
from tests.retrieval.fakes import ENTRIES


def seen(count: int, **witnessed: list[float]) -> Witnesses:
    """What is not named is 0."""
    names = ("bm25", "asked_bm25", "similarity", "asked", "named")
    values = {name: np.array(witnessed.get(name, [0.0] * count), dtype=np.float32) for name in names}
    return Witnesses(**values, passage=np.zeros(count, dtype=np.int64))


def test_an_entry_has_its_best_passage_and_the_first_of_equals() -> None:
    similarity = np.array([0.1, 0.5, 0.5, -0.2], dtype=np.float32)
    best, which = best_passages(similarity, np.array([0, 0, 0, 1]), 2)
    np.testing.assert_array_equal(best, similarity[[0 + 1, 3]])
    np.testing.assert_array_equal(which, [1, 3])


def test_a_module_lends_its_similarity_to_what_it_holds() -> None:
    witnessed = seen(4, similarity=[0.8, 0.1, 0.2, 0.1])
    scores = fuse(witnessed, prior_of(ENTRIES), Weights(module=1.0))
    # str and shutil have no entry of their own here: they get the mean.
    np.testing.assert_allclose(scores, [0.8, 0.8, 0.3, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("similarity", 0.5),
        ("asked", 0.75),
        ("bm25", 3.0),
        ("asked_bm25", 2.0),
        ("named", 1.0),
        ("length", np.log1p(4)),
        ("depth", 2.0),
        ("deprecated", 1.0),
    ],
)
def test_a_weight_moves_its_feature_alone(name: str, value: float) -> None:
    prior = prior_of([Entry("a.b.c", "function", "a", "", "text", deprecated=True)])
    witnessed = seen(1, similarity=[0.5], asked=[0.75], bm25=[3.0], asked_bm25=[2.0], named=[1.0])
    score = fuse(witnessed, prior, Weights(**{name: 2.0}))
    assert score[0] == pytest.approx(2 * value, rel=1e-6, abs=1e-9)


def test_a_further_text_is_no_object() -> None:
    further = Entry("heapq.merge", "function", "heapq", "", "More of it.", source=REFERENCE)
    alone = Entry("math.pi", "data", "math", "", "Only here.", source=REFERENCE)
    prior = prior_of((*ENTRIES, further, alone))
    np.testing.assert_array_equal(prior.is_object, [True] * 4 + [False, True])
    scores = fuse(seen(6, similarity=[0.1] * 4 + [-np.inf, 0.1]), prior, WEIGHTS)
    np.testing.assert_array_equal(np.isfinite(scores), prior.is_object)


def test_a_ranker_changes_the_order_of_what_it_read_and_no_other() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, -np.inf], dtype=np.float32)
    logits = np.array([[-3.0, 9.0, 9.0], [2.0, 9.0, 9.0]], dtype=np.float32)
    found = rerank(scores, np.array([0, 1]), logits, Ranking(fused=1.0, relevant=2.0))
    np.testing.assert_allclose(found, [-1.0, 8.0, -2.0, -3.0, -np.inf])
    np.testing.assert_array_equal(ranks(found)[:4], [2, 1, 3, 4])


@pytest.mark.parametrize(("name", "column"), [("relevant", 0), ("answers", 1), ("no_answer", 2)])
def test_each_logit_counts_by_its_weight(name: str, column: int) -> None:
    logits = np.array([[1.0, 10.0, 100.0]], dtype=np.float32)
    ranking = Ranking(**{"fused": 0.0, "relevant": 0.0, name: 0.5})
    found = rerank(np.array([7.0], dtype=np.float32), np.array([0]), logits, ranking)
    assert found[0] == logits[0, column] / 2


def test_nothing_to_read_leaves_the_order() -> None:
    scores = np.zeros(0, dtype=np.float32)
    empty = np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.float32)
    assert rerank(scores, *empty).shape == (0,)


def test_ranks_count_from_one() -> None:
    np.testing.assert_array_equal(ranks(np.array([0.1, 0.9, 0.1], dtype=np.float32)), [2, 1, 3])


def test_chances_keep_the_order_and_meet_the_line() -> None:
    calibration = Calibration(11.0, "a test")
    chances = [calibration.chance(score) for score in (-1e6, 0.0, 10.9, 11.0, 11.1, 30.0, 1e6)]
    assert chances == sorted(chances)
    assert chances[3] == LINE
    assert (chances[0], chances[-1]) == (pytest.approx(0.0), pytest.approx(1.0))
