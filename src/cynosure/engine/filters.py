"""Say which tokens may be drawn. Knows nothing of requests, batches or dice.

Each filter takes scores (logits after temperature) and says who stays; at least one always does. Applied
one after the other, each sees only those that the one before left.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: What is less likely than this, against the likeliest, is sorted only where that matters.
NEGLIGIBLE = 1e-4


def above_min_p(scores: Float[Tensor, " m"], min_p: float) -> Bool[Tensor, " m"]:
    """Those at least `min_p` times as likely as the likeliest (Nguyen et al., 2407.01082)."""
    if min_p == 0.0:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= scores.max() + math.log(min_p)


def among_top_k(scores: Float[Tensor, " m"], top_k: int) -> Bool[Tensor, " m"]:
    """The `top_k` likeliest, and those as likely as the last of them."""
    if top_k >= len(scores):
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= _largest_but(scores, top_k - 1)


def within_top_p(scores: Float[Tensor, " m"], top_p: float) -> Bool[Tensor, " m"]:
    """The fewest that hold `top_p` of the probability (Holtzman et al., 1904.09751).

    Of equals, those with the lower id stay.
    """
    weights = (scores - scores.max()).exp_()
    # Few tokens hold nearly all: the others are sorted only where these do not suffice.
    is_likely = weights > NEGLIGIBLE
    share = float(weights[is_likely].sum(dtype=torch.float64) / weights.sum(dtype=torch.float64))
    likely, share = (scores[is_likely], share) if share > top_p else (scores, 1.0)
    ordered = _descending(likely)
    probs = ordered.softmax(-1).double() * share
    num_needed = max(1, int((probs.cumsum(-1) - probs < top_p).sum()))
    least = ordered[num_needed - 1]
    num_kept = int((ordered >= least).sum())
    if num_kept == num_needed:
        return scores >= least
    kept = scores > least
    ties = (scores == least).nonzero()[:, 0]
    kept[ties[: num_needed - int(kept.sum())]] = True
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


def places_of(kept: Bool[Tensor, " m"]) -> Int[Tensor, " n"]:
    """Return who stays, in order; on a CPU, numpy looks through them faster."""
    if kept.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(kept.numpy()))
    return kept.nonzero()[:, 0]


def _largest_but(scores: Float[Tensor, " m"], count: int) -> Float[Tensor, ""]:
    """Return the largest that `count` others are above, or as large; on a CPU, numpy finds it faster."""
    if scores.device.type == "cpu":
        place = len(scores) - 1 - count
        return torch.from_numpy(np.partition(scores.detach().numpy(), place)[place : place + 1])[0]
    return scores.topk(count + 1).values[-1]


def _descending(scores: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Sort values without their places: on a CPU, numpy does that many times faster than torch sorts both."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.detach().numpy())).flip(0)
    return scores.sort(descending=True).values
