"""Attend tile by tile with a running softmax, skipping blocks that the mask empties. Plain torch, no map.

The arithmetic is that of FlashAttention-2 (arXiv 2307.08691, algorithm 1): a running maximum `m`, a
running sum and a running output, rescaled when `m` grows. Everything that can be observed is folded in
the same loop. Tiles depend on the plan and the spec alone, so observing changes no output bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.reference import top_of
from cynosure.attention.grid import Grid
from cynosure.attention.masks import Cover
from cynosure.attention.state import AttentionState, accumulation_dtype
from cynosure.attention.stats import Stats


@dataclass(frozen=True)
class TiledBackend(Backend):
    """Blockwise attention for every mask, bias and statistic, in memory linear in the lengths.

    Blocks of `block` keys are visited or skipped whole; a tile holds at most `max_rows` x `max_keys` scores
    a head and `max_scores` in all.
    """

    block: int = 128
    max_keys: int = 2048
    max_rows: int = 512
    max_scores: int = 1 << 23

    name = "tiled"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse selections, whose scorer looks at a whole row."""
        if call.selection is not None:
            return ("a selection ranks the keys of a whole row, and tiles see a part of it",)
        return ()

    def run(self, call: AttentionCall) -> AttentionState:
        """Return the state, one tile of query rows after the other."""
        heads = call.spec.heads
        state = AttentionState.identity(call.q.shape[0], heads.num_heads, heads.v_head_dim, call.q)
        stats = _empty_stats(call, state)
        for seq, grid in enumerate(call.grids):
            self._fill_sequence(call, seq, grid, state, stats)
        return AttentionState(state.out, state.lse, stats, call.watch.heads if call.watch else None)

    def tile_rows(self, num_heads: int, num_rows: int) -> int:
        """Return how many query rows a tile takes, a multiple of `block` that bounds its scores."""
        fitting = self.max_scores // (num_heads * self.max_keys) // self.block * self.block
        return min(num_rows, max(self.block, min(self.max_rows, fitting)))

    def key_chunks(self, covers: list[int], num_keys: int) -> list[tuple[int, int, bool]]:
        """Group a row of block covers into `(start, stop, is_partial)` runs of keys, at most a tile long."""
        chunks: list[tuple[int, int, bool]] = []
        for index, cover in enumerate(covers):
            if cover == Cover.EMPTY:
                continue
            start, stop, is_partial = (
                index * self.block,
                min(num_keys, (index + 1) * self.block),
                cover == Cover.PARTIAL,
            )
            if chunks and chunks[-1][1:] == (start, is_partial) and stop - chunks[-1][0] <= self.max_keys:
                chunks[-1] = (chunks[-1][0], stop, is_partial)
            else:
                chunks.append((start, stop, is_partial))
        return chunks

    def _fill_sequence(
        self, call: AttentionCall, seq: int, grid: Grid, state: AttentionState, stats: Stats | None
    ) -> None:
        num_rows, num_keys = grid.shape
        if not num_rows or not num_keys:
            return
        step = self.tile_rows(call.spec.heads.num_heads, num_rows)
        covers = call.mask.block_map(grid, step, self.block).tolist()
        first = call.queries.offsets[seq]
        for index, start in enumerate(range(0, num_rows, step)):
            rows = slice(start, min(num_rows, start + step))
            running = _attend_rows(call, seq, rows, self.key_chunks(covers[index], num_keys))
            place = slice(first + rows.start, first + rows.stop)
            sees = running.total > 0
            total = torch.where(sees, running.total, torch.ones_like(running.total))
            state.out[place] = (running.out / total[..., None]).transpose(0, 1)
            state.lse[place] = torch.where(sees, running.top + total.log(), running.top).transpose(0, 1)
            if stats is not None:
                _store(call, running, stats, place, call.key_firsts[seq])


@dataclass
class _Running:
    """The running softmax of one tile of rows, heads first."""

    top: Float[Tensor, "h q"]
    total: Float[Tensor, "h q"]
    out: Float[Tensor, "h q d"]
    mass: Float[Tensor, "w q s"] | None
    score_sum: Float[Tensor, "w q"] | None
    max_logit: Float[Tensor, "w q"] | None
    top_logits: Float[Tensor, "w q t"] | None
    top_keys: Tensor | None


def _attend_rows(call: AttentionCall, seq: int, rows: slice, chunks: list[tuple[int, int, bool]]) -> _Running:
    heads, grid = call.spec.heads, call.grids[seq]
    dtype = accumulation_dtype(call.q.dtype)
    first = call.queries.offsets[seq]
    q = call.q[first + rows.start : first + rows.stop].transpose(0, 1).to(dtype)
    running = _start(call, q)
    for start, stop, is_partial in chunks:
        columns = slice(start, stop)
        tile = grid.tile(rows, columns)
        k, v = call.source.read(call.keys, seq, start, stop)
        scores = call.scores_of(q, k.to(dtype), tile)
        if is_partial:
            scores = scores.masked_fill(~call.mask.allowed(tile), float("-inf"))
        top = torch.maximum(running.top, scores.amax(-1))
        finite = torch.where(torch.isneginf(top), torch.zeros_like(top), top)
        decay = torch.exp(running.top - finite)
        p = torch.exp(scores - finite[..., None])
        grouped = p.reshape(heads.num_kv_heads, -1, stop - start) @ v.to(dtype)
        running.out = running.out * decay[..., None] + grouped.reshape(running.out.shape)
        running.total = running.total * decay + p.sum(-1)
        running.top = top
        if call.watch is not None:
            _observe(call, running, _Tile(seq, columns, scores, p, decay))
    return running


@dataclass(frozen=True, eq=False)
class _Tile:
    seq: int
    columns: slice
    scores: Float[Tensor, "h q k"]
    p: Float[Tensor, "h q k"]
    decay: Float[Tensor, "h q"]


def _start(call: AttentionCall, q: Float[Tensor, "h q d"]) -> _Running:
    num_heads, num_rows = q.shape[:2]
    watch, width = call.watch, call.spec.heads.v_head_dim
    shape = (len(call.watched_heads), num_rows)
    lowest = q.new_full((num_heads, num_rows), float("-inf"))
    return _Running(
        top=lowest,
        total=q.new_zeros(num_heads, num_rows),
        out=q.new_zeros(num_heads, num_rows, width),
        mass=q.new_zeros(*shape, call.num_segments) if watch and watch.mass else None,
        score_sum=q.new_zeros(shape) if watch and watch.entropy else None,
        max_logit=q.new_full(shape, float("-inf")) if watch and watch.max_logit else None,
        top_logits=q.new_full((*shape, watch.top_k), float("-inf")) if watch and watch.top_k else None,
        top_keys=torch.zeros(*shape, watch.top_k, dtype=torch.int64, device=q.device)
        if watch and watch.top_k
        else None,
    )


def _observe(call: AttentionCall, running: _Running, tile: _Tile) -> None:
    heads = list(call.watched_heads)
    scores, p, decay = tile.scores[heads], tile.p[heads], tile.decay[heads]
    if running.mass is not None:
        assert call.keys.segments is not None
        first = call.keys.offsets[tile.seq]
        segments = call.keys.segments[first + tile.columns.start : first + tile.columns.stop]
        one_hot = torch.nn.functional.one_hot(segments, call.num_segments).to(p.dtype)
        running.mass = running.mass * decay[..., None] + p @ one_hot
    if running.score_sum is not None:
        running.score_sum = running.score_sum * decay + (
            p * scores.masked_fill(torch.isneginf(scores), 0.0)
        ).sum(-1)
    if running.max_logit is not None:
        running.max_logit = torch.maximum(running.max_logit, scores.amax(-1))
    if running.top_logits is not None and running.top_keys is not None:
        count = running.top_logits.shape[-1]
        values, columns = top_of(scores, count)
        values, order = torch.cat([running.top_logits, values], -1).sort(dim=-1, descending=True, stable=True)
        keys = torch.cat([running.top_keys, columns + tile.columns.start], -1).gather(-1, order)
        running.top_logits, running.top_keys = values[..., :count], keys[..., :count]


def _empty_stats(call: AttentionCall, state: AttentionState) -> Stats | None:
    watch = call.watch
    if watch is None:
        return None
    shape = (state.lse.shape[0], len(call.watched_heads))
    lowest = float("-inf")
    return Stats(
        mass_lse=state.lse.new_full((*shape, call.num_segments), lowest) if watch.mass else None,
        sink_lse=state.lse.new_full(shape, lowest) if watch.mass else None,
        mean_score=state.lse.new_zeros(shape) if watch.entropy else None,
        max_logit=state.lse.new_full(shape, lowest) if watch.max_logit else None,
        top_logits=state.lse.new_full((*shape, watch.top_k), lowest) if watch.top_k else None,
        top_keys=torch.zeros(*shape, watch.top_k, dtype=torch.int64, device=state.lse.device)
        if watch.top_k
        else None,
    )


def _store(call: AttentionCall, running: _Running, stats: Stats, place: slice, key_first: int) -> None:
    heads = list(call.watched_heads)
    top = running.top[heads]
    if stats.mass_lse is not None and running.mass is not None:
        stats.mass_lse[place] = (running.mass.log() + torch.nan_to_num(top, neginf=0.0)[..., None]).transpose(
            0, 1
        )
    if stats.mean_score is not None and running.score_sum is not None:
        total = running.total[heads]
        stats.mean_score[place] = (
            running.score_sum / total.where(total > 0, torch.ones_like(total))
        ).transpose(0, 1)
    if stats.max_logit is not None and running.max_logit is not None:
        stats.max_logit[place] = running.max_logit.transpose(0, 1)
    if stats.top_logits is not None and running.top_logits is not None:
        assert stats.top_keys is not None
        assert running.top_keys is not None
        stats.top_logits[place] = running.top_logits.transpose(0, 1)
        stats.top_keys[place] = (
            (running.top_keys + key_first).where(~torch.isneginf(running.top_logits), 0).transpose(0, 1)
        )
