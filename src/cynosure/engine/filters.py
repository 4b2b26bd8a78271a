"""Say which tokens may be drawn. Knows nothing of requests, batches or dice.

Each filter takes scores (logits after temperature) and says who stays; at least one always does. Applied
one after the other, each sees only those that the one before left.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FEW = 1024
SLACK = 1e-9
"""Covers the rounding of a sum in another order, in float64."""


def above_min_p(scores: Float[Tensor, " m"], min_p: float) -> Bool[Tensor, " m"]:
    """Those at least `min_p` times as likely as the likeliest (Nguyen et al., 2407.01082)."""
    if min_p == 0.0:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= scores.max() + math.log(min_p)


def among_top_k(scores: Float[Tensor, " m"], top_k: int) -> Bool[Tensor, " m"]:
    """The `top_k` likeliest, and those as likely as the last of them."""
    least = scores.topk(min(top_k, len(scores))).values[-1]
    return scores >= least


def within_top_p(scores: Float[Tensor, " m"], top_p: float) -> Bool[Tensor, " m"]:
    """The fewest that hold `top_p` of the probability (Holtzman et al., 1904.09751).

    Of equals, those with the lower id stay.
    """
    order = _likeliest_first(scores, top_p)
    probs = scores.softmax(-1)[order].double()
    is_needed = probs.cumsum(-1) - probs < top_p
    is_needed[0] = True
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[order[is_needed]] = True
    return kept


def within_typical_p(scores: Float[Tensor, " m"], typical_p: float) -> Bool[Tensor, " m"]:
    """The fewest that hold `typical_p`, those whose surprise is nearest the entropy first.

    Locally typical sampling (Meister et al., 2202.00666); those as near as the last one stay too.
    """
    logprobs = scores.log_softmax(-1)
    probs = logprobs.exp()
    # A banned token has no surprise to weigh: 0 times infinity is no number.
    entropy = -torch.where(probs > 0, probs * logprobs, 0.0).sum()
    distance = (-logprobs - entropy).abs()
    sorted_distance, order = distance.sort(stable=True)
    before = probs[order].double().cumsum(-1) < typical_p
    last = min(int(before.sum()), len(scores) - 1)
    return distance <= sorted_distance[last]


def _likeliest_first(scores: Float[Tensor, " m"], top_p: float) -> Int[Tensor, " k"]:
    """Places from the likeliest down, of equals the lower first: enough to hold `top_p`, or all."""
    if len(scores) > 4 * FEW:
        # To sort a whole vocabulary takes ten times as long as all the rest, and few hold most of it.
        few = (scores >= scores.topk(FEW).values[-1]).nonzero()[:, 0]
        if float(scores.softmax(-1)[few].double().sum()) > top_p + SLACK:
            return few[scores[few].sort(descending=True, stable=True).indices]
    return scores.sort(descending=True, stable=True).indices
