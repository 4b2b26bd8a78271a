"""Choose pages and learn their bounds on the native kernels. Computes nothing in torch."""

from __future__ import annotations

import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from cynosure.attention.attend import planned_calls
from cynosure.attention.backends.choice import BACKENDS
from cynosure.attention.backends.native_lowering import ELEMENTS, lowered_for, point_to_source
from cynosure.attention.page_choice import NUM_FIRST, NUM_LAST, PageChoice, Recalled, check_choice
from cynosure.attention.plan import AttentionPlan
from cynosure.attention.sources import PagedSource
from cynosure.attention.spec import AttentionSpec
from cynosure.core.errors import UnsupportedByBackend
from cynosure.kernels.attention import CAttentionCall
from cynosure.kernels.page_choice import CBoundsCall, CPageChoice, attend_to_pages, learn_bounds


def attend_natively(
    spec: AttentionSpec,
    q: Float[Tensor, "n h d"],
    source: PagedSource,
    plan: AttentionPlan,
    choice: PageChoice,
) -> Recalled:
    """Return what `page_choice.attend_to_pages` does, within rounding.

    Raises:
        AttentionError: layers of this spec can't choose, or a sequence that does has not one query.
        UnsupportedByBackend: the kernels can't attend to this source.
    """
    check_choice(spec, plan, choice)
    call = planned_calls(spec, q, [source], plan)[0]
    if reasons := BACKENDS["native"].refusals(call):
        raise UnsupportedByBackend(f"backend native can't do this: {'; '.join(reasons)}. Use 'auto'")
    heads = spec.heads
    out = torch.empty(q.shape[0], heads.num_heads, heads.v_head_dim)
    lse = torch.empty(q.shape[0], heads.num_heads)
    shares = torch.ones(plan.num_seqs, heads.num_heads)
    q = q if q.stride(-1) == 1 else q.contiguous()
    struct = CAttentionCall.from_buffer_copy(lowered_for(call).struct)
    struct.q, struct.q_type = q.data_ptr(), ELEMENTS[q.dtype]
    struct.q_row_stride, struct.q_head_stride, _ = q.stride()
    struct.out, struct.lse = out.data_ptr(), lse.data_ptr()
    point_to_source(struct, source)
    attend_to_pages(struct, lowered_choice(choice, shares))
    return Recalled(out, lse, shares)


def lowered_choice(choice: PageChoice, shares: Float[Tensor, "num_seqs h"]) -> CPageChoice:
    """Return the struct of a choice that writes what is recalled to `shares`; all of it must live."""
    assert choice.bounds.is_contiguous()
    assert choice.num_pages.dtype == choice.is_checked.dtype == torch.int64
    return CPageChoice(
        bounds=choice.bounds.data_ptr(),
        num_pages=choice.num_pages.data_ptr(),
        num_first=NUM_FIRST,
        num_last=NUM_LAST,
        is_checked=choice.is_checked.data_ptr(),
        recalled=shares.data_ptr(),
    )


def learn_natively(
    source: PagedSource, blocks: Int[Tensor, " n"], bounds: BFloat16[Tensor, "num_blocks h 2 d"]
) -> None:
    """Write the bounds of some pages, as `page_choice.bounds_of` tells them."""
    k = source.k_pages
    assert bounds.is_contiguous()
    assert source.lies_well
    call = CBoundsCall(k=k.data_ptr(), k_type=ELEMENTS[k.dtype])
    call.k_block_stride, call.k_head_stride, call.k_key_stride, _ = k.stride()
    call.k_scale = None if source.scales is None else source.scales.k.data_ptr()
    _, call.num_kv_heads, call.block_size, call.head_dim = k.shape
    call.num_blocks, call.blocks, call.bounds = blocks.numel(), blocks.data_ptr(), bounds.data_ptr()
    learn_bounds(call)
