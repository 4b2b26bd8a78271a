"""Test the fusion: passages collapse into objects, and each witness moves the score as its weight says."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.retrieval.documents import Entry
from cynosure.retrieval.rank import Weights, best_passages, fuse, prior_of, ranks
from tests.retrieval.fakes import ENTRIES

NONE = dict.fromkeys(vars(Weights()), 0.0)


def test_an_entry_has_its_best_passage_and_the_first_of_equals() -> None:
    similarity = np.array([0.1, 0.5, 0.5, -0.2], dtype=np.float32)
    best, which = best_passages(similarity, np.array([0, 0, 0, 1]), 2)
    np.testing.assert_array_equal(best, similarity[[0 + 1, 3]])
    np.testing.assert_array_equal(which, [1, 3])


def test_a_module_lends_its_similarity_to_what_it_holds() -> None:
    similarity = np.array([0.8, 0.1, 0.2, 0.1], dtype=np.float32)
    scores = fuse(similarity, np.zeros(4, np.float32), prior_of(ENTRIES), Weights(**NONE | {"module": 1.0}))
    # str and shutil have no entry of their own here: they get the mean.
    np.testing.assert_allclose(scores, [0.8, 0.8, 0.3, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("similarity", 0.5),
        ("bm25", 3.0),
        ("length", np.log1p(4)),
        ("depth", 2.0),
        ("deprecated", 1.0),
    ],
)
def test_a_weight_moves_its_feature_alone(name: str, value: float) -> None:
    prior = prior_of([Entry("a.b.c", "function", "a", "", "text", deprecated=True)])
    similarity, bm25 = np.array([0.5], dtype=np.float32), np.array([3.0], dtype=np.float32)
    score = fuse(similarity, bm25, prior, Weights(**NONE | {name: 2.0}))
    assert score[0] == pytest.approx(2 * value, rel=1e-6)


def test_ranks_count_from_one() -> None:
    np.testing.assert_array_equal(ranks(np.array([0.1, 0.9, 0.1], dtype=np.float32)), [2, 1, 3])
