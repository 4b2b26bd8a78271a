"""Lower a call's plan, spec and source to the struct of the kernels. Computes no attention.

What a plan alone tells is worked out once a pass, what a spec adds once a spec; a layer adds the addresses
of its tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.native_masks import CellMap, interval_of, map_of
from cynosure.attention.grid import Grid
from cynosure.attention.positions import Alibi, NoPosition, T5Bias
from cynosure.attention.sources import DenseSource, PagedSource
from cynosure.kernels.attention import CAttentionCall, Element, survey_positions

ELEMENTS = {
    torch.float32: Element.FLOAT32,
    torch.bfloat16: Element.BFLOAT16,
    torch.float16: Element.FLOAT16,
    torch.int8: Element.INT8,
}


@dataclass(frozen=True, eq=False)
class Layout:
    """The arrays of a plan as the kernels read them: int64 and contiguous, kept alive by this.

    `max_apart` is the distance between the two farthest positions of a sequence.
    """

    cu_q: Int[Tensor, " num_seqs_1"]
    cu_k: Int[Tensor, " num_seqs_1"]
    q_positions: Int[Tensor, " n"]
    k_positions: Int[Tensor, " num_keys"]
    first_rows: Int[Tensor, " num_seqs"]
    block_table: Int[Tensor, "num_seqs max_blocks"] | None
    is_consecutive: UInt8[Tensor, " num_seqs"]
    max_apart: int
    key_bias: Float[Tensor, " num_keys"] | None


@dataclass(frozen=True, eq=False)
class Lowered:
    """A struct that lacks a layer's addresses, the tensors that it points to, or why there is none."""

    struct: CAttentionCall
    kept: tuple[object, ...]
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of segments of all sequences as `(segment, start, stop)`, and where each sequence's begin."""

    runs: Int[Tensor, "num_runs 3"]
    offsets: Int[Tensor, " num_seqs_1"]


def layout_of(call: AttentionCall) -> Layout:
    """Return the plan's arrays, once for all layers."""
    return call.remembered("native layout", lambda: _layout_of(call))


def lowered_for(call: AttentionCall) -> Lowered:
    """Return the struct of `call`'s spec and weights over its plan, once for all layers that share them."""
    table, bias = call.weights.position_table, call.weights.bias
    key = ("native struct", call.spec, isinstance(call.source, PagedSource), id(table), id(bias))
    return call.remembered(key, lambda: _lower(call))


def runs_of(call: AttentionCall) -> Runs:
    """Return the runs of segments of all sequences, once for all layers."""
    return call.remembered("native runs", lambda: _runs_of(call))


def point_to_source(struct: CAttentionCall, source: DenseSource | PagedSource) -> None:
    """Set the addresses and strides of keys and values."""
    if isinstance(source, PagedSource):
        k, v = source.k_pages, source.v_pages
        struct.k_block_stride, struct.k_head_stride, struct.k_key_stride, _ = k.stride()
        struct.v_block_stride, struct.v_head_stride, struct.v_key_stride, _ = v.stride()
        if source.scales is not None:
            struct.k_scale, struct.v_scale = source.scales.k.data_ptr(), source.scales.v.data_ptr()
    else:
        k, v = source.k, source.v
        struct.k_key_stride, struct.k_head_stride, _ = k.stride()
        struct.v_key_stride, struct.v_head_stride, _ = v.stride()
    struct.k, struct.v, struct.kv_type = k.data_ptr(), v.data_ptr(), ELEMENTS[k.dtype]


def _layout_of(call: AttentionCall) -> Layout:
    queries, keys = call.queries, call.keys
    cu_q, cu_k = _whole(queries.cu_seqlens), _whole(keys.cu_seqlens)
    q_positions, k_positions = _whole(queries.positions), _whole(keys.positions)
    num_seqs = cu_k.numel() - 1
    is_consecutive = torch.empty(num_seqs, dtype=torch.uint8)
    # From a query to a key is at most from the first to the last of either, and from one side to the other.
    width = survey_positions(k_positions.data_ptr(), cu_k.data_ptr(), num_seqs, is_consecutive.data_ptr())
    spare = torch.empty_like(is_consecutive)
    width += survey_positions(q_positions.data_ptr(), cu_q.data_ptr(), num_seqs, spare.data_ptr())
    bias = None if keys.bias is None else keys.bias.float().contiguous()
    if keys.is_pad is not None:
        bias = torch.zeros(k_positions.numel()) if bias is None else bias
        bias = bias.masked_fill(keys.is_pad, float("-inf"))
    return Layout(
        cu_q,
        cu_k,
        q_positions,
        k_positions,
        cu_k[:-1] if keys.starts is None else _whole(keys.starts),
        None if keys.block_table is None else _whole(keys.block_table),
        is_consecutive,
        width,
        bias,
    )


def _lower(call: AttentionCall) -> Lowered:
    layout, struct = layout_of(call), CAttentionCall()
    kept: list[object] = [layout, call.weights]
    _set_layout(struct, call, layout)
    kept += _set_scores(struct, call, layout)
    interval = interval_of(call.mask, layout.q_positions, is_pad_told=call.keys.is_pad is not None)
    if interval is not None:
        kept.append(interval)
        struct.low, struct.high = _address(interval.low), _address(interval.high)
        return Lowered(struct, tuple(kept))
    cells = call.remembered(("native map", call.mask), lambda: map_of(call.mask, call.grids))
    if not isinstance(cells, CellMap):
        return Lowered(struct, (), f"{call.mask!r} has {cells} cells that would have to be spelt out")
    struct.map_blocks, struct.map_offsets = cells.blocks.data_ptr(), cells.offsets.data_ptr()
    struct.map_cells, struct.map_rows = cells.cells.data_ptr(), cells.rows
    return Lowered(struct, (*kept, cells))


def _set_layout(struct: CAttentionCall, call: AttentionCall, layout: Layout) -> None:
    struct.num_seqs = layout.cu_q.numel() - 1
    struct.cu_q, struct.cu_k = layout.cu_q.data_ptr(), layout.cu_k.data_ptr()
    struct.q_positions, struct.k_positions = layout.q_positions.data_ptr(), layout.k_positions.data_ptr()
    struct.is_consecutive, struct.key_bias = layout.is_consecutive.data_ptr(), _address(layout.key_bias)
    if isinstance(call.source, PagedSource):
        assert layout.block_table is not None
        struct.block_table, struct.table_stride = layout.block_table.data_ptr(), layout.block_table.shape[1]
        struct.block_size = call.source.block_size
    else:
        struct.first_rows = layout.first_rows.data_ptr()


def _set_scores(struct: CAttentionCall, call: AttentionCall, layout: Layout) -> list[object]:
    """Set heads and score terms; return the tensors that they need."""
    heads, score, kept = call.spec.heads, call.spec.score, []
    struct.num_heads, struct.num_kv_heads = heads.num_heads, heads.num_kv_heads
    struct.head_dim, struct.v_head_dim = heads.head_dim, heads.v_head_dim
    struct.scale, struct.softcap = score.scale_for(heads.head_dim), score.softcap or 0.0
    struct.train_length = 0.0 if score.log_n is None else float(score.log_n.train_length)
    position = NoPosition() if call.keys.is_always_visible else call.spec.position
    if isinstance(position, Alibi):
        slopes = position.slopes()
        struct.slopes = slopes.data_ptr()
        kept.append(slopes)
    elif isinstance(position, T5Bias):
        farthest = 2 * position.max_distance
        line = Grid(
            torch.zeros(1, dtype=torch.int64), torch.arange(-farthest, farthest + 1), 2 * farthest + 1
        )
        by_distance = position.bias(line, call.weights.position_table)[:, 0].float().contiguous()
        struct.distance_bias, struct.max_distance = by_distance.data_ptr(), farthest
        kept.append(by_distance)
    if call.weights.bias is not None:
        dense = call.weights.bias.float().contiguous()
        struct.dense_bias = dense.data_ptr()
        struct.bias_head_stride, struct.bias_row_stride, _ = dense.stride()
        kept.append(dense)
    return kept


def _runs_of(call: AttentionCall) -> Runs:
    runs, offsets = [], [0]
    for seq in range(len(call.keys.offsets) - 1):
        runs += call.keys.segment_runs(seq)
        offsets.append(len(runs))
    return Runs(torch.tensor(runs, dtype=torch.int64).reshape(-1, 3), torch.tensor(offsets))


def _whole(array: Tensor) -> Int[Tensor, "..."]:
    return array.to(torch.int64).contiguous()


def _address(array: Tensor | None) -> int | None:
    return None if array is None else array.data_ptr()
