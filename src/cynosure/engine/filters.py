"""Say which tokens may be drawn. Knows nothing of requests, batches or dice.

Each filter takes scores (logits after temperature) and says who stays; at least one always does. Applied
one after the other, each sees only those that the one before left.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
    ordered = _descending(scores)
    probs = ordered.softmax(-1).double()
    num_needed = max(1, int((probs.cumsum(-1) - probs < top_p).sum()))
    least = ordered[num_needed - 1]
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


def _descending(scores: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Sort values without their places: on a CPU, numpy does that many times faster than torch sorts both."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.detach().numpy())).flip(0)
    return scores.sort(descending=True).values
