"""Attend to the best keys of a memory, each query and head to its own. Knows nothing of how to search.

Only what was chosen enters the softmax, as in the reference; equal scores are cut where the count ends, of
which the reference keeps all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.reference import logsumexp, top_of, watched
from cynosure.attention.memory_source import MemorySource
from cynosure.attention.state import AttentionState, accumulation_dtype
from cynosure.attention.stats import Stats
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The keys that each query of each head attends to: their scores and their rows; `-inf` is no key."""

    scores: Float[Tensor, "h q c"]
    rows: Int[Tensor, "h q c"]


@dataclass(frozen=True)
class MemoryBackend(Backend):
    """Exact search over tiles of keys, or the memory's own; at most `max_scores` scores at a time."""

    max_keys: int = 8192
    max_scores: int = 1 << 22

    name = "memory"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse every source that is no memory."""
        if not isinstance(call.source, MemorySource):
            return (f"it reads a MemorySource; the source is a {type(call.source).__name__}",)
        return ()

    def run(self, call: AttentionCall) -> AttentionState:
        """Return what each query got from its best keys, a few queries at a time."""
        heads = call.spec.heads
        states = []
        for seq, grid in enumerate(call.grids):
            width = max(min(grid.num_keys, self.max_keys), _count(call, seq) * heads.v_head_dim, 1)
            step = max(1, self.max_scores // (heads.num_heads * width))
            for first in range(0, grid.shape[0], step):
                states.append(self._attend(call, seq, slice(first, min(first + step, grid.shape[0]))))
        if not states:
            states = [AttentionState.identity(0, heads.num_heads, heads.v_head_dim, call.q)]
        state = AttentionState(torch.cat([s.out for s in states]), torch.cat([s.lse for s in states]))
        return state if call.watch is None else watched(call, state, [s.stats for s in states if s.stats])

    def _attend(self, call: AttentionCall, seq: int, rows: slice) -> AttentionState:
        grid = call.grids[seq]
        dtype = accumulation_dtype(call.q.dtype)
        q = call.q[call.rows(seq)][rows].transpose(0, 1).to(dtype)
        chosen = (
            self._scored(call, seq, q, rows) if _source(call).search is None else _found(call, seq, q, rows)
        )
        lse = logsumexp(chosen.scores)
        sees = ~torch.isneginf(lse)
        weights = torch.exp(chosen.scores - lse.where(sees, 0.0)[..., None])
        _, v = call.source.read(call.keys, seq, 0, grid.num_keys)
        out = torch.einsum("hqc,hqcd->hqd", weights, _gathered(call, v, chosen.rows).to(dtype))
        stats = None if call.watch is None else _observed(call, seq, chosen, weights)
        return AttentionState(out.transpose(0, 1), lse.transpose(0, 1), stats)

    def _scored(self, call: AttentionCall, seq: int, q: Float[Tensor, "h q d"], rows: slice) -> _Chosen:
        """Score every key, tile by tile, and keep the best."""
        grid, count = call.grids[seq], _count(call, seq)
        best = _Chosen(
            q.new_empty(*q.shape[:2], 0), torch.empty(*q.shape[:2], 0, dtype=torch.int64, device=q.device)
        )
        for start in range(0, grid.num_keys, self.max_keys):
            stop = min(start + self.max_keys, grid.num_keys)
            tile = grid.tile(rows, slice(start, stop))
            k, _ = call.source.read(call.keys, seq, start, stop)
            scores = call.scores_of(q, k.to(q.dtype), tile)
            scores = scores.masked_fill(~call.mask.allowed(tile), float("-inf"))
            scores, order = torch.cat([best.scores, scores], -1).topk(
                min(count, best.scores.shape[-1] + stop - start)
            )
            places = torch.arange(start, stop, device=q.device).expand(*q.shape[:2], -1)
            best = _Chosen(scores, torch.cat([best.rows, places], -1).gather(-1, order))
        return best


def _found(call: AttentionCall, seq: int, q: Float[Tensor, "h q d"], rows: slice) -> _Chosen:
    """Score what the memory's search finds.

    Raises:
        AttentionError: some keys may not be seen or count otherwise, or scores fall where products grow.
    """
    memory, keys, grid = _source(call), call.keys, call.grids[seq]
    assert memory.search is not None
    is_whole = keys.first_rows[seq] == 0 and grid.num_keys == memory.size
    if not is_whole or keys.bias is not None or keys.is_pad is not None or call.weights.bias is not None:
        raise AttentionError(
            "a search covers all rows of its memory and knows no bias and no padding, so that what is denied "
            "could take the place of what is not. Leave the search out: then every key is scored"
        )
    if not call.spec.score.scale_for(call.spec.heads.head_dim) > 0:
        raise AttentionError("a search finds the largest products; scores must grow with them. Leave it out")
    found = memory.search.best(q, _count(call, seq))
    best = found.clamp(min=0)
    k, _ = call.source.read(keys, seq, 0, grid.num_keys)
    scores = (q[:, :, None] * _gathered(call, k, best).to(q.dtype)).sum(-1)
    scores = scores * call.scale_of(grid.tile(rows, slice(0, grid.num_keys)), q.dtype)
    softcap = call.spec.score.softcap
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    return _Chosen(scores.masked_fill(found < 0, float("-inf")), best)


def _source(call: AttentionCall) -> MemorySource:
    assert isinstance(call.source, MemorySource)
    return call.source


def _count(call: AttentionCall, seq: int) -> int:
    return min(_source(call).num_best, call.grids[seq].num_keys)


def _gathered(
    call: AttentionCall, values: Float[Tensor, "h_kv n d"], rows: Int[Tensor, "h q c"]
) -> Float[Tensor, "h q c d"]:
    heads = torch.arange(rows.shape[0], device=rows.device) // call.spec.heads.group_size
    return values[heads[:, None, None], rows]


def _observed(call: AttentionCall, seq: int, chosen: _Chosen, weights: Float[Tensor, "h q c"]) -> Stats:
    assert call.watch is not None
    watch, heads = call.watch, list(call.watched_heads)
    scores, rows = chosen.scores[heads].transpose(0, 1), chosen.rows[heads].transpose(0, 1)
    mass = mean = largest = top_logits = top_keys = None
    if watch.mass and call.num_segments:
        assert call.keys.segments is not None
        segments = call.keys.segments[call.keys.offsets[seq] : call.keys.offsets[seq + 1]][rows]
        parts = [scores.masked_fill(segments != one, float("-inf")) for one in range(call.num_segments)]
        mass = torch.stack([logsumexp(part) for part in parts], -1)
    if watch.entropy:
        shares = weights[heads].transpose(0, 1)
        mean = (shares * scores.masked_fill(torch.isneginf(scores), 0.0)).sum(-1)
    if watch.max_logit:
        largest = top_of(scores, 1)[0].squeeze(-1)
    if watch.top_k:
        top_logits, places = top_of(scores, watch.top_k)
        top_keys = _padded(rows, watch.top_k).gather(-1, places) + call.key_firsts[seq]
    return Stats(mass, None, mean, largest, top_logits, top_keys)


def _padded(rows: Int[Tensor, "n w c"], count: int) -> Int[Tensor, "n w t"]:
    return torch.nn.functional.pad(rows, (0, max(0, count - rows.shape[-1])))
