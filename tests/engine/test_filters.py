"""Each filter against the warper of `transformers` and against plain Python, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from cynosure.engine.filters import above_min_p, among_top_k, within_top_p, within_typical_p

CASES = [
    *[(above_min_p, MinPLogitsWarper, share) for share in (0.01, 0.1, 0.5, 1.0)],
    *[(among_top_k, TopKLogitsWarper, count) for count in (1, 2, 17, 5000)],
    *[(within_top_p, TopPLogitsWarper, share) for share in (0.05, 0.5, 0.9, 0.999)],
    *[(within_typical_p, TypicalLogitsWarper, share) for share in (0.05, 0.3, 0.9, 0.99)],
]
Filter = Callable[[Tensor, float], Tensor]


@pytest.mark.parametrize(("keeps", "oracle", "limit"), CASES)
@pytest.mark.parametrize(("vocab", "spread"), [(2, 1.0), (50, 3.0), (5000, 0.3), (5000, 6.0), (20000, 2.0)])
def test_filters_keep_what_the_oracle_keeps(
    keeps: Filter, oracle: type[LogitsProcessor], limit: float, vocab: int, spread: float
) -> None:
    scores = torch.randn(8, vocab) * spread
    expected = oracle(limit)(torch.zeros(8, 1, dtype=torch.int64), scores) > -math.inf
    for row, kept in zip(scores, expected, strict=True):
        # The oracle sums in float32: one token at the edge may fall on the other side.
        assert int((keeps(row, limit) != kept).sum()) <= (vocab > 1000)


@pytest.mark.parametrize("keeps", [within_top_p, within_typical_p])
def test_one_token_more_or_less_is_rare(keeps: Filter) -> None:
    """Without this, a filter that is off by one everywhere could pass for rounding."""
    oracle = {within_top_p: TopPLogitsWarper, within_typical_p: TypicalLogitsWarper}[keeps](0.7)
    scores = torch.randn(200, 2000)
    expected = oracle(torch.zeros(200, 1, dtype=torch.int64), scores) > -math.inf
    differing = sum(
        not torch.equal(keeps(row, 0.7), kept) for row, kept in zip(scores, expected, strict=True)
    )
    assert differing <= 4


def naive_top_p(scores: list[float], top_p: float) -> set[int]:
    total = math.fsum(math.exp(score) for score in scores)
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    kept, mass = {order[0]}, 0.0
    for place in order:
        if mass >= top_p:
            break
        kept.add(place)
        mass += math.exp(scores[place]) / total
    return kept


@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=12, unique=True),
    st.sampled_from([0.03, 0.31, 0.77, 0.97]),
)
def test_top_p_is_the_smallest_set_that_holds_enough(scores: list[int], top_p: float) -> None:
    kept = within_top_p(torch.tensor(scores, dtype=torch.float32), top_p)
    assert set(kept.nonzero()[:, 0].tolist()) == naive_top_p([float(score) for score in scores], top_p)


def test_of_equals_top_p_keeps_the_first_and_top_k_all() -> None:
    scores = torch.zeros(8)
    assert within_top_p(scores, 0.5).tolist() == [True] * 4 + [False] * 4
    assert among_top_k(scores, 3).all()


@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 0.9999])
def test_ties_at_the_edge_are_cut_where_enough_is_held(top_p: float) -> None:
    scores = torch.randn(3000).round(decimals=1)
    order = scores.sort(descending=True, stable=True).indices
    probs = scores.softmax(-1)[order].double()
    num_needed = max(1, int((probs.cumsum(-1) - probs < top_p).sum()))
    kept = within_top_p(scores, top_p)
    assert set(kept.nonzero()[:, 0].tolist()) == set(order[:num_needed].tolist())


@pytest.mark.parametrize(
    ("keeps", "limit"), [(above_min_p, 1.0), (among_top_k, 1), (within_top_p, 0.0), (within_typical_p, 0.0)]
)
def test_at_least_one_stays(keeps: Filter, limit: float) -> None:
    scores = torch.tensor([0.5, -1.0, 3.0, -math.inf])
    kept = keeps(scores, limit)
    assert int(kept.sum()) == 1
    assert kept[2] or keeps is within_typical_p


@pytest.mark.parametrize("keeps", [above_min_p, within_top_p, within_typical_p])
def test_what_is_banned_stays_banned(keeps: Filter) -> None:
    scores = torch.tensor([-math.inf, 0.0, 1.0, -math.inf, 0.5])
    kept = keeps(scores, 0.99)
    assert not kept[0]
    assert not kept[3]
    assert kept.any()


def test_min_p_of_zero_keeps_all() -> None:
    assert above_min_p(torch.randn(9), 0.0).all()
