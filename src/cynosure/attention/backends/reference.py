"""Attend by materialising every score: the oracle of all other backends. Knows nothing of speed."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.selection import selected_keys
from cynosure.attention.state import AttentionState, accumulation_dtype
from cynosure.attention.stats import Stats


class ReferenceBackend(Backend):
    """Dense attention in float32, or in float64 for float64 inputs."""

    name = "reference"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse nothing."""
        return ()

    def run(self, call: AttentionCall) -> AttentionState:
        """Return softmax(scores) v, one sequence after the other."""
        heads = call.spec.heads
        state = AttentionState.identity(call.q.shape[0], heads.num_heads, heads.v_head_dim, call.q)
        parts = [_attend_sequence(call, seq) for seq in range(len(call.queries.offsets) - 1)]
        if not parts:
            return state if call.watch is None else watched(call, state, [])
        state = AttentionState(
            torch.cat([part.out for part in parts]), torch.cat([part.lse for part in parts])
        )
        return (
            state
            if call.watch is None
            else watched(call, state, [part.stats for part in parts if part.stats])
        )


def dense_scores(call: AttentionCall, seq: int) -> Float[Tensor, "h q k"]:
    """Return every score of sequence `seq`, `-inf` where the mask or the selection forbids."""
    grid = call.grids[seq]
    dtype = accumulation_dtype(call.q.dtype)
    k, _ = call.source.read(call.keys, seq, 0, grid.num_keys)
    q = call.q[call.rows(seq)].transpose(0, 1).to(dtype)
    scores = call.scores_of(q, k.to(dtype), grid)
    scores = scores.masked_fill(~call.mask.allowed(grid), float("-inf"))
    if call.selection is None:
        return scores
    kept = selected_keys(call.selection, scores, q, k.to(dtype))
    return scores.masked_fill(~kept, float("-inf"))


def _attend_sequence(call: AttentionCall, seq: int) -> AttentionState:
    grid = call.grids[seq]
    heads = call.spec.heads
    scores = dense_scores(call, seq)
    lse = scores.logsumexp(-1) if grid.num_keys else scores.new_full(scores.shape[:2], float("-inf"))
    weights = _softmax(scores, lse)
    _, v = call.source.read(call.keys, seq, 0, grid.num_keys)
    num_rows = grid.shape[0]
    grouped = weights.reshape(heads.num_kv_heads, heads.group_size * num_rows, grid.num_keys)
    out = (grouped @ v.to(weights.dtype)).reshape(heads.num_heads, num_rows, heads.v_head_dim)
    stats = None if call.watch is None else _observe(call, seq, scores, weights)
    return AttentionState(out.transpose(0, 1), lse.transpose(0, 1), stats)


def _softmax(scores: Float[Tensor, "h q k"], lse: Float[Tensor, "h q"]) -> Float[Tensor, "h q k"]:
    sees: Bool[Tensor, "h q"] = ~torch.isneginf(lse)
    return torch.exp(scores - torch.where(sees, lse, torch.zeros_like(lse))[..., None])


def _observe(
    call: AttentionCall, seq: int, scores: Float[Tensor, "h q k"], weights: Float[Tensor, "h q k"]
) -> Stats:
    assert call.watch is not None
    watch, heads = call.watch, list(call.watched_heads)
    scores, weights = scores[heads].transpose(0, 1), weights[heads].transpose(0, 1)
    mass = mean = largest = top_logits = top_keys = None
    if watch.mass and call.num_segments:
        columns = slice(call.keys.offsets[seq], call.keys.offsets[seq + 1])
        assert call.keys.segments is not None
        segments = call.keys.segments[columns]
        parts = [
            scores.masked_fill(segments != segment, float("-inf")) if segments.numel() else scores
            for segment in range(call.num_segments)
        ]
        mass = torch.stack([logsumexp(part) for part in parts], -1)
    if watch.entropy:
        mean = (weights * scores.masked_fill(torch.isneginf(scores), 0.0)).sum(-1)
    if watch.max_logit:
        largest = (
            scores.max(-1).values if scores.shape[-1] else scores.new_full(scores.shape[:2], float("-inf"))
        )
    if watch.top_k:
        top_logits, top_keys = top_of(scores, watch.top_k)
        top_keys = top_keys + call.key_firsts[seq]
    return Stats(mass, None, mean, largest, top_logits, top_keys)


def top_of(scores: Float[Tensor, "n w k"], count: int) -> tuple[Float[Tensor, "n w t"], Tensor]:
    """Return the `count` largest scores and their columns, padded with `-inf` where there are fewer."""
    short = max(0, count - scores.shape[-1])
    padded = torch.nn.functional.pad(scores, (0, short), value=float("-inf")) if short else scores
    values, columns = padded.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], columns[..., :count].where(~torch.isneginf(values[..., :count]), 0)


def logsumexp(scores: Float[Tensor, "*lead k"]) -> Float[Tensor, "*lead"]:
    """Return the log of the sum of exponentials over keys; `-inf` where there are none."""
    if not scores.shape[-1]:
        return scores.new_full(scores.shape[:-1], float("-inf"))
    return scores.logsumexp(-1)


def watched(call: AttentionCall, state: AttentionState, parts: list[Stats]) -> AttentionState:
    """Join the sequences' observations; the sink's share is empty until `attend` merges the sink."""
    assert call.watch is not None
    num_watched = len(call.watched_heads)
    names = ("mass_lse", "mean_score", "max_logit", "top_logits", "top_keys")
    joined = {name: _joined([vars(part)[name] for part in parts]) for name in names}
    sink = state.lse.new_full((state.lse.shape[0], num_watched), float("-inf"))
    stats = Stats(sink_lse=sink if call.watch.mass else None, **joined)
    return AttentionState(state.out, state.lse, stats, call.watch.heads)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None
