"""Choose which keys a query attends to by their scores. Knows nothing of masks' shapes or backends."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.attention.spec import TopK


def selected_keys(
    selection: TopK, scores: Float[Tensor, "h q k"], q: Float[Tensor, "h q d"], k: Float[Tensor, "h_kv k d"]
) -> Bool[Tensor, "h q k"]:
    """Return the keys that `selection` keeps, among those whose score is not `-inf`.

    Ties keep every key that equals the last one chosen, so that the choice does not depend on their order.
    """
    num_keys = scores.shape[-1]
    allowed = ~torch.isneginf(scores)
    if not num_keys:
        return allowed
    if selection.page_size == 1:
        ranks = scores
    else:
        ranks = page_bounds(q, k, selection.page_size)
        ranks = ranks.masked_fill(~_any_in_page(allowed, selection.page_size), float("-inf"))
    count = min(selection.num_pages, ranks.shape[-1])
    threshold = ranks.topk(count, dim=-1).values[..., -1:]
    kept = (ranks >= threshold) & ~torch.isneginf(ranks)
    if selection.page_size > 1:
        kept = kept.repeat_interleave(selection.page_size, -1)[..., :num_keys]
    return kept & allowed


def page_bounds(
    q: Float[Tensor, "h q d"], k: Float[Tensor, "h_kv k d"], page_size: int
) -> Float[Tensor, "h q pages"]:
    """Return an upper bound of `q.k` over each page: the sum over channels of `max(q_i min_i, q_i max_i)`."""
    num_pages = -(-k.shape[1] // page_size)
    short = num_pages * page_size - k.shape[1]
    last = k[:, -1:].expand(-1, short, -1)
    pages = torch.cat([k, last], 1).reshape(k.shape[0], num_pages, page_size, k.shape[2])
    low, high = pages.amin(2), pages.amax(2)
    grouped = q.reshape(k.shape[0], -1, q.shape[-1])
    bound = grouped.clamp(min=0) @ high.transpose(1, 2) + grouped.clamp(max=0) @ low.transpose(1, 2)
    return bound.reshape(*q.shape[:2], num_pages)


def _any_in_page(allowed: Bool[Tensor, "h q k"], page_size: int) -> Bool[Tensor, "h q pages"]:
    num_pages = -(-allowed.shape[-1] // page_size)
    padded = torch.nn.functional.pad(allowed, (0, num_pages * page_size - allowed.shape[-1]))
    return padded.reshape(*allowed.shape[:2], num_pages, page_size).any(-1)
