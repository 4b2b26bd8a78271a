"""Choose the pages that a decoding step attends to by bounds of their keys. Knows nothing of models.

Of each page and K/V head the smallest and the largest number of every channel of its keys are kept: `bounds`.
They tell how large a product with a query can be (Quest, arXiv 2406.10774, equation 1). A K/V head ranks its
pages by that, taken for each of its query heads from the largest that this head has, and then the best over
heads; equal ranks go by the order of pages. The first pages, where sinks are, and the last are always in.

This is the plain twin; `native_pages.py` is what serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from cynosure.attention.attend import attend
from cynosure.attention.masks import Causal
from cynosure.attention.plan import AttentionPlan, cumulative
from cynosure.attention.sources import PagedSource, PageScales
from cynosure.attention.spec import AttentionSpec, Heads
from cynosure.core.errors import AttentionError

NUM_FIRST, NUM_LAST = 1, 2
MIN_PAGES = NUM_FIRST + NUM_LAST + 1


@dataclass(frozen=True, eq=False)
class PageChoice:
    """What a layer needs to choose pages.

    - `bounds`: of all pages that may be passed over; those of others are not looked at.
    - `num_pages`: pages that each sequence's K/V heads attend to at most, first and last included; 0: all.
    - `is_checked`: the sequences that attend to all pages, to tell what the chosen ones recall.
    """

    bounds: BFloat16[Tensor, "num_blocks h 2 d"]
    num_pages: Int[Tensor, " num_seqs"]
    is_checked: Int[Tensor, " num_seqs"]

    def __post_init__(self) -> None:
        """Refuse numbers that leave no page to choose."""
        few = [count for count in self.num_pages.tolist() if 0 < count < MIN_PAGES or count < 0]
        if few:
            raise AttentionError(
                f"a sequence is to attend to {few[0]} pages; the limit is {MIN_PAGES}. Raise it"
            )


@dataclass(frozen=True, eq=False)
class Recalled:
    """What a layer gives that chose pages; `shares` are of the checked sequences, and 1 elsewhere."""

    out: Float[Tensor, "n h dv"]
    lse: Float[Tensor, "n h"]
    shares: Float[Tensor, "num_seqs h"]


def refusal_of_choice(spec: AttentionSpec) -> str:
    """Say why layers of this spec can't choose pages, and attend to all; empty where they can."""
    if spec.mask != Causal():
        return f"its mask is {spec.mask!r}"
    if spec.position.adds_bias:
        return f"{spec.position!r} adds to scores by distance"
    if not spec.score.scale_for(spec.heads.head_dim) > 0:
        return "its scores do not grow with q.k"
    if spec.selection is not None:
        return "it has a selection of its own"
    return ""


def bounds_of(source: PagedSource) -> BFloat16[Tensor, "num_blocks h 2 d"]:
    """Return the smallest and the largest of each channel over a page's keys, rounded outwards."""
    keys = source.k_pages.float()
    keys = keys if source.scales is None else keys * source.scales.k[..., None]
    return torch.stack([_outwards(keys.amin(2), -1.0), _outwards(keys.amax(2), 1.0)], 2)


def choose_pages(
    q: Float[Tensor, "h d"], bounds: BFloat16[Tensor, "pages h_kv 2 d"], num_pages: int
) -> Int[Tensor, "h_kv num_pages"]:
    """Return which of a sequence's pages the K/V heads attend to, in their order."""
    total, num_kv_heads = bounds.shape[:2]
    middle = bounds[NUM_FIRST : total - NUM_LAST].float()
    grouped = q.float().reshape(num_kv_heads, -1, q.shape[-1])
    above = torch.einsum("hgd,phd->hgp", grouped.clamp(min=0), middle[:, :, 1])
    below = torch.einsum("hgd,phd->hgp", grouped.clamp(max=0), middle[:, :, 0])
    scores = above + below
    ranks = (scores - scores.amax(-1, keepdim=True)).amax(1)
    best = ranks.sort(dim=-1, descending=True, stable=True).indices[:, : num_pages - NUM_FIRST - NUM_LAST]
    edges = torch.cat([torch.arange(NUM_FIRST), torch.arange(total - NUM_LAST, total)])
    return torch.cat([best + NUM_FIRST, edges.expand(num_kv_heads, -1)], 1).sort(-1).values


def attend_to_pages(
    spec: AttentionSpec,
    q: Float[Tensor, "n h d"],
    source: PagedSource,
    plan: AttentionPlan,
    choice: PageChoice,
) -> Recalled:
    """Attend to the chosen pages, sequence by sequence and K/V head by K/V head.

    Raises:
        AttentionError: layers of this spec can't choose, or a sequence that does has not one query.
    """
    check_choice(spec, plan, choice)
    whole = attend(spec, q, [source], plan)
    out, lse = whole.out.clone(), whole.lse.clone()
    shares = torch.ones(plan.num_seqs, spec.heads.num_heads)
    keys = plan.keys[0]
    assert keys.block_table is not None
    for seq, num_pages in enumerate(choice.num_pages.tolist()):
        num_keys, row = keys.offsets[seq + 1] - keys.offsets[seq], plan.queries.offsets[seq]
        total = -(-num_keys // source.block_size)
        if not num_pages or num_pages >= total:
            continue
        table = keys.block_table[seq, :total]
        chosen = choose_pages(q[row], choice.bounds[table], num_pages)
        count = num_keys - (total - num_pages) * source.block_size
        parts = [
            _of_head(spec, q[row], source, head, (table[pages], count)) for head, pages in enumerate(chosen)
        ]
        chosen_lse = torch.cat([part[1] for part in parts])
        if int(choice.is_checked[seq]):
            shares[seq] = (chosen_lse - whole.lse[row]).exp().clamp(max=1.0)
        else:
            out[row], lse[row] = torch.cat([part[0] for part in parts]), chosen_lse
    return Recalled(out, lse, shares)


def check_choice(spec: AttentionSpec, plan: AttentionPlan, choice: PageChoice) -> None:
    """Raise where a call can't choose pages.

    Raises:
        AttentionError: layers of this spec can't, or a sequence that chooses has not one query.
    """
    if refusal := refusal_of_choice(spec):
        raise AttentionError(f"a layer can't choose pages: {refusal}. Attend to all of them")
    offsets = plan.queries.offsets
    for seq, num_pages in enumerate(choice.num_pages.tolist()):
        if num_pages and offsets[seq + 1] - offsets[seq] != 1:
            raise AttentionError(
                f"sequence {seq} chooses pages for {offsets[seq + 1] - offsets[seq]} queries; it can for one"
            )


def _of_head(
    spec: AttentionSpec,
    q: Float[Tensor, "h d"],
    source: PagedSource,
    head: int,
    pages: tuple[Int[Tensor, " pages"], int],
) -> tuple[Float[Tensor, "group dv"], Float[Tensor, " group"]]:
    """Attend for the query heads of one K/V head to so many keys of these pages."""
    table, num_keys = pages
    part = slice(head, head + 1)
    scales = source.scales
    own = PagedSource(
        source.k_pages[:, part],
        source.v_pages[:, part],
        None
        if scales is None
        else PageScales(scales.k[:, part].contiguous(), scales.v[:, part].contiguous()),
        source.read_dtype,
    )
    heads = spec.heads
    group = heads.group_size
    plan = AttentionPlan.of_lengths([1], [num_keys])
    keys = replace(plan.keys[0], block_table=table[None], cu_seqlens=cumulative([num_keys]))
    alone = replace(spec, heads=Heads(group, 1, heads.head_dim, heads.v_head_dim))
    state = attend(alone, q[None, head * group : (head + 1) * group], [own], plan.with_keys(keys))
    return state.out[0], state.lse[0]


def _outwards(x: Float[Tensor, "*lead d"], towards: float) -> BFloat16[Tensor, "*lead d"]:
    rounded = x.bfloat16()
    falls_short = (rounded.float() - x) * towards < 0
    further = torch.nextafter(rounded, torch.full_like(rounded, towards * torch.inf))
    return torch.where(falls_short, further, rounded)
