"""Put keys and values into pages on the kernels, rotated on the way if asked. Knows nothing of sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from cynosure.kernels import why_none
from cynosure.kernels.attention import Element
from cynosure.kernels.kv_write import MAX_HEAD_DIM, CKvWriteCall, write

NUMBERS = {
    torch.float32: Element.FLOAT32,
    torch.bfloat16: Element.BFLOAT16,
    torch.float16: Element.FLOAT16,
}
KEPT = {**NUMBERS, torch.int8: Element.INT8}


@dataclass(frozen=True, eq=False)
class Pages:
    """One layer's pages, with the scales of their codes where they hold codes."""

    k: Num[Tensor, "num_blocks h block_size d"]
    v: Num[Tensor, "num_blocks h block_size dv"]
    k_scales: Float[Tensor, "num_blocks h block_size"] | None = None
    v_scales: Float[Tensor, "num_blocks h block_size"] | None = None


@dataclass(frozen=True, eq=False)
class Turn:
    """Cosines and sines of the new tokens' angles, in the dtype of keys, and queries to be rotated in place.

    Pairs of channels are `(i, i + half)`, or `(2i, 2i + 1)` where `is_interleaved`; later channels pass.
    """

    cos: Float[Tensor, "n half"]
    sin: Float[Tensor, "n half"]
    is_interleaved: bool = False
    q: Float[Tensor, "n hq d"] | None = None


def why_not_native(k: Float[Tensor, "n h d"], v: Float[Tensor, "n h dv"], pages: Pages) -> str:
    """Say why the kernels can't write these; empty where they can."""
    missing = why_none()
    if missing:
        return missing
    if k.dtype not in NUMBERS or v.dtype != k.dtype or pages.k.dtype not in KEPT or k.device.type != "cpu":
        return f"the kernels don't write {k.dtype} on {k.device.type} into pages of {pages.k.dtype}"
    if max(k.shape[2], v.shape[2]) > MAX_HEAD_DIM:
        return f"the kernels write heads of at most {MAX_HEAD_DIM} channels"
    return ""


def write_native(
    k: Float[Tensor, "n h d"],
    v: Float[Tensor, "n h dv"],
    slots: Int[Tensor, " n"],
    pages: Pages,
    turn: Turn | None = None,
) -> None:
    """Put each token's keys and values at its slot; the same bits as indexing gives where nothing turns.

    Rotations are computed in float32 and rounded once.
    """
    k, v, slots = _rows(k), _rows(v), slots.contiguous()
    call = CKvWriteCall(num_tokens=k.shape[0], type=NUMBERS[k.dtype], slots=slots.data_ptr())
    call.k, call.num_kv_heads, call.head_dim = k.data_ptr(), k.shape[1], k.shape[2]
    call.k_row_stride, call.k_head_stride, _ = k.stride()
    call.v, call.v_head_dim = v.data_ptr(), v.shape[2]
    call.v_row_stride, call.v_head_stride, _ = v.stride()
    call.block_size, call.page_type = pages.k.shape[2], KEPT[pages.k.dtype]
    call.k_pages, call.v_pages = pages.k.data_ptr(), pages.v.data_ptr()
    call.k_block_stride, call.k_page_head_stride, call.k_key_stride, _ = pages.k.stride()
    call.v_block_stride, call.v_page_head_stride, call.v_key_stride, _ = pages.v.stride()
    if pages.k_scales is not None and pages.v_scales is not None:
        call.k_scale, call.v_scale = pages.k_scales.data_ptr(), pages.v_scales.data_ptr()
    if turn is not None:
        _set_turn(call, turn)
    write(call)


def _set_turn(call: CKvWriteCall, turn: Turn) -> None:
    assert turn.cos.is_contiguous()
    assert turn.sin.is_contiguous()
    call.cos, call.sin = turn.cos.data_ptr(), turn.sin.data_ptr()
    call.half, call.table_stride = turn.cos.shape[1], turn.cos.shape[1]
    call.is_interleaved = int(turn.is_interleaved)
    if turn.q is not None:
        assert turn.q.stride(-1) == 1, "queries are rotated in place, so their channels must lie together"
        call.q, call.num_heads = turn.q.data_ptr(), turn.q.shape[1]
        call.q_row_stride, call.q_head_stride, _ = turn.q.stride()


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
