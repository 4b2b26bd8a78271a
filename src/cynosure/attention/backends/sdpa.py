"""Attend with torch's fused CPU kernel, one call per run of a segment. Knows nothing of tiles.

The kernel returns the log-sum-exp beside the output, so partial results over segments merge into the
whole, and each segment's share is `exp(lse_s - lse)`: no map and no second pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.attention.grid import Grid
from cynosure.attention.masks import Causal, Cover, Full
from cynosure.attention.state import AttentionState, accumulation_dtype, merge
from cynosure.attention.stats import Stats

_flash_attention_for_cpu: Callable[..., tuple[Tensor, Tensor]] = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
)
MAX_MASK_CELLS = 1 << 25
MAX_RUNS = 64


class SdpaBackend(Backend):
    """`aten::_scaled_dot_product_flash_attention_for_cpu`: fused, grouped heads without copies, with lse."""

    name = "sdpa"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse what the kernel lacks; see the messages."""
        spec, reasons = call.spec, []
        if call.q.device.type != "cpu":
            reasons.append(f"the kernel is for the CPU; q is on {call.q.device.type}")
        if spec.heads.head_dim != spec.heads.v_head_dim:
            widths = f"{spec.heads.head_dim} and {spec.heads.v_head_dim}"
            reasons.append(f"the kernel wants keys and values of one width; got {widths}")
        if spec.score.softcap is not None:
            reasons.append("the kernel can't bend scores (softcap)")
        if spec.score.log_n is not None and call.q.dtype.itemsize < 4:
            reasons.append("log-n would be rounded into queries of 16 bits: the kernel takes one scale")
        if call.selection is not None:
            reasons.append("a selection needs the scores before the softmax")
        if self._needs_mask(call):
            cells = max((grid.shape[0] * grid.shape[1] for grid in call.grids), default=0)
            cells *= spec.heads.num_heads if call.has_score_bias else 1
            if cells > MAX_MASK_CELLS:
                reasons.append(
                    f"a dense mask of {cells} cells would be written; the limit is {MAX_MASK_CELLS}"
                )
        if call.num_segments:
            num_runs = max((len(call.keys.segment_runs(seq)) for seq in range(len(call.grids))), default=0)
            if num_runs > MAX_RUNS:
                reasons.append(
                    f"{num_runs} runs of segments mean as many kernel calls; the limit is {MAX_RUNS}"
                )
        return tuple(reasons)

    def run(self, call: AttentionCall) -> AttentionState:
        """Return the merged state of all runs, sequence by sequence."""
        heads = call.spec.heads
        state = AttentionState.identity(call.q.shape[0], heads.num_heads, heads.v_head_dim, call.q)
        watched = call.watch is not None and call.watch.mass
        shape = (*state.lse[:, list(call.watched_heads)].shape, call.num_segments)
        mass = state.lse.new_full(shape, float("-inf")) if watched else None
        for seq, grid in enumerate(call.grids):
            if grid.shape[0]:
                self._fill(call, seq, grid, state, mass)
        if call.watch is None:
            return state
        stats = Stats(
            mass_lse=mass, sink_lse=None if mass is None else mass.new_full(shape[:2], float("-inf"))
        )
        if call.watch.needs_scores:
            seen = TiledBackend().run(call).stats
            assert seen is not None
            stats = Stats(
                stats.mass_lse,
                stats.sink_lse,
                seen.mean_score,
                seen.max_logit,
                seen.top_logits,
                seen.top_keys,
            )
        return AttentionState(state.out, state.lse, stats, call.watch.heads)

    def _fill(
        self, call: AttentionCall, seq: int, grid: Grid, state: AttentionState, mass: Tensor | None
    ) -> None:
        rows = call.rows(seq)
        runs = call.keys.segment_runs(seq) if call.num_segments else ((0, 0, grid.num_keys),)
        for segment, start, stop in runs:
            part = _attend_run(
                call, seq, grid, start, stop, is_square=len(runs) == 1 and _is_square(call, seq)
            )
            if mass is not None:
                lse = part.lse[:, list(call.watched_heads)]
                mass[rows, :, segment] = torch.logaddexp(mass[rows, :, segment], lse)
            if len(runs) > 1:
                part = merge(AttentionState(state.out[rows], state.lse[rows]), part)
            state.out[rows], state.lse[rows] = part.out, part.lse

    def _needs_mask(self, call: AttentionCall) -> bool:
        is_plain = isinstance(call.mask, Full) or (
            isinstance(call.mask, Causal) and all(_is_square(call, seq) for seq in range(len(call.grids)))
        )
        return call.has_score_bias or call.num_segments > 0 or not is_plain


def _is_square(call: AttentionCall, seq: int) -> bool:
    """Whether row `i` and column `i` are one token for all `i`: what the kernel's causal flag means."""
    grid = call.grids[seq]
    rows, columns = grid.shape
    if rows != columns:
        return False

    def find() -> bool:
        return torch.equal(grid.q_positions, grid.k_positions) and bool((grid.q_positions.diff() > 0).all())

    return call.remembered(("is_square", seq), find)


def _attend_run(
    call: AttentionCall, seq: int, grid: Grid, start: int, stop: int, *, is_square: bool
) -> AttentionState:
    q = call.q[call.rows(seq)].transpose(0, 1)
    empty = AttentionState.identity(q.shape[1], q.shape[0], call.spec.heads.v_head_dim, q)
    if start == stop:
        return empty
    tile = grid.tile(slice(0, grid.shape[0]), slice(start, stop))
    is_causal = is_square and isinstance(call.mask, Causal) and not call.has_score_bias
    k, v = call.source.read(call.keys, seq, start, stop)
    mask, sees = (None, None) if is_causal else _mask_of(call, seq, tile, q, k)
    q = q if call.spec.score.log_n is None else q * call.scale_of(tile, empty.out.dtype).to(q.dtype)
    scale = call.spec.score.scale_for(call.spec.heads.head_dim) if call.spec.score.log_n is None else 1.0
    out, lse = _flash_attention_for_cpu(
        q[None], k[None], v[None], 0.0, is_causal, attn_mask=mask, scale=scale
    )
    out, lse = out[0].transpose(0, 1), lse[0].transpose(0, 1)
    out, lse = out.to(empty.out.dtype), lse.to(empty.lse.dtype)
    if sees is None:
        return AttentionState(out, lse)
    sees = sees.transpose(0, 1)
    return AttentionState(out.where(sees[..., None], empty.out), lse.where(sees, empty.lse))


def _mask_of(
    call: AttentionCall, seq: int, tile: Grid, q: Float[Tensor, "h q d"], k: Float[Tensor, "h_kv k d"]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the additive mask that the kernel wants, and which rows of which heads see anything."""
    rows, columns = tile.shape
    # Wider than q where q is narrow: a bias rounded to bfloat16 would cost the scores two digits.
    dtype = accumulation_dtype(q.dtype)
    bias, content = call.bias_of(tile), call.content_bias_of(q.to(dtype), k.to(dtype), tile)
    if content is not None:
        bias = content if bias is None else bias + content
    if bias is None:
        key = ("cover", call.mask, seq, tile.k_first, columns)
        cover = call.remembered(key, lambda: int(call.mask.block_map(tile, rows, columns).min()))
        if cover == Cover.FULL:
            return None, None
    allowed = call.mask.allowed(tile)
    added = q.new_zeros(1, rows, columns, dtype=dtype) if bias is None else bias.to(dtype)
    added = added.expand(-1, rows, columns)
    added = added.masked_fill(~allowed, float("-inf"))
    sees = (~torch.isneginf(added)).any(-1).expand(q.shape[0], rows)
    return added.contiguous()[None], sees
