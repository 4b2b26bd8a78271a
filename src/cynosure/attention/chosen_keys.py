"""Attend, query by query, to keys that were chosen beforehand. Knows nothing of how they are chosen.

Nothing is copied: a key alone is a page of one, and each query a sequence with a table of its own. So
whatever gathers pages gathers tokens.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.masks import Mask, Pad
from cynosure.attention.plan import AttentionPlan, KeyPlan, QueryPlan, cumulative
from cynosure.attention.sources import DenseSource, PagedSource, PageScales
from cynosure.core.errors import AttentionError

#: In the place of a key where a query has fewer than others.
NO_KEY = -1


def allowed_keys(
    plan: AttentionPlan, mask: Mask, seq: int, scores: Float[Tensor, "q k"]
) -> Float[Tensor, "q k"]:
    """Return a sequence's scores, `-inf` where a query may not see a key: masked, padding or denied."""
    keys, grid = plan.keys[0], plan.grids[0][seq]
    allowed = (mask if keys.is_pad is None else mask & Pad()).allowed(grid)
    if grid.k_bias is not None:
        allowed = allowed & ~torch.isneginf(grid.k_bias)
    return scores.masked_fill(~allowed, float("-inf"))


def best_keys(scores: Float[Tensor, "q k"], num_chosen: int) -> Int[Tensor, "q num_chosen"]:
    """Return each query's keys with the largest scores in their order, then `NO_KEY`; never one of `-inf`."""
    num_keys = scores.shape[1]
    best = scores.topk(min(num_chosen, num_keys), dim=-1)
    # Behind all keys, so that what is no key is sorted last.
    chosen = best.indices.masked_fill(torch.isneginf(best.values), num_keys).sort(-1).values
    chosen = chosen.masked_fill(chosen == num_keys, NO_KEY)
    return torch.nn.functional.pad(chosen, (0, num_chosen - chosen.shape[1]), value=NO_KEY)


def by_query(
    plan: AttentionPlan, source: DenseSource | PagedSource, chosen: Int[Tensor, "n num_chosen"]
) -> tuple[PagedSource, AttentionPlan]:
    """Return the keys of `source` as pages of one, and a plan in which each query is a sequence of its own.

    Args:
        plan: of one source, whose queries `chosen` has a row each for.
        source: keys and values of one head.
        chosen: keys of a query's sequence, counted from its first, in order; `NO_KEY` behind them.

    Raises:
        AttentionError: the source has several heads, or the plan what can't be told query by query.
    """
    queries, (keys,) = plan.queries, plan.keys
    if (
        source.shape[0] != 1
        or queries.nodes is not None
        or keys.documents is not None
        or keys.spans is not None
    ):
        raise AttentionError(
            f"keys are chosen for one K/V head, without trees, documents or spans; got {source.shape[0]} "
            "heads. Attend to all keys"
        )
    lens = (chosen != NO_KEY).sum(1)
    rows = torch.repeat_interleave(
        torch.arange(plan.num_seqs), torch.tensor([stop - start for start, stop in pairwise(queries.offsets)])
    )
    places = keys.cu_seqlens[:-1][rows][:, None] + chosen.clamp(min=0)
    flat = places[chosen != NO_KEY]
    own = KeyPlan(
        cumulative(lens.tolist()),
        keys.positions[flat],
        block_table=_slots(keys, source, rows, chosen),
        segments=None if keys.segments is None else keys.segments[flat],
        bias=None if keys.bias is None else keys.bias[flat],
    )
    asking = QueryPlan(torch.arange(chosen.shape[0] + 1), queries.positions)
    return _singly(source), replace(plan, queries=asking, keys=(own,))


def _slots(
    keys: KeyPlan,
    source: DenseSource | PagedSource,
    rows: Int[Tensor, " n"],
    chosen: Int[Tensor, "n num_chosen"],
) -> Int[Tensor, "n num_chosen"]:
    """Return where each key lies among all that the source holds."""
    indices = chosen.clamp(min=0)
    if isinstance(source, DenseSource):
        slots = torch.tensor(keys.first_rows)[rows][:, None] + indices
    else:
        assert keys.block_table is not None
        blocks = keys.block_table[rows].gather(1, indices // source.block_size)
        slots = blocks * source.block_size + indices % source.block_size
    return slots.masked_fill(chosen == NO_KEY, NO_KEY)


def _singly(source: DenseSource | PagedSource) -> PagedSource:
    """Return each key as a page: views, since one head's keys lie one behind the other."""
    if isinstance(source, DenseSource):
        return PagedSource(source.k[:, :, None], source.v[:, :, None])
    scales = source.scales
    return PagedSource(
        _unpaged(source.k_pages),
        _unpaged(source.v_pages),
        None if scales is None else PageScales(scales.k.reshape(-1, 1, 1), scales.v.reshape(-1, 1, 1)),
        source.read_dtype,
    )


def _unpaged(pages: Tensor) -> Tensor:
    return pages.transpose(1, 2).flatten(0, 1)[:, :, None]
