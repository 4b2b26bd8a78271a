"""Attend to any number of sources under one spec and merge what they give. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, AttentionWeights
from cynosure.attention.backends.choice import AUTO, BACKENDS, choose
from cynosure.attention.plan import AttentionPlan
from cynosure.attention.sources import Source
from cynosure.attention.spec import AttentionSpec, Sink
from cynosure.attention.state import AttentionState, merge
from cynosure.attention.stats import Stats, Watch
from cynosure.core.errors import AttentionError

NO_WEIGHTS = AttentionWeights()


def attend(
    spec: AttentionSpec,
    q: Float[Tensor, "n h d"],
    sources: Sequence[Source],
    plan: AttentionPlan,
    *,
    weights: AttentionWeights = NO_WEIGHTS,
    watch: Watch | None = None,
    backend: str = AUTO,
) -> AttentionState:
    """Return what the queries get from all sources together, and what was watched.

    Queries and keys come rotated where the spec's position is a rotation. Shapes and units: `q` is
    packed `[tokens, heads, head_dim]`; the state's `out` is `[tokens, heads, v_head_dim]` in the
    accumulation dtype and `lse` is in nats.

    Raises:
        AttentionError: spec, plan, sources and weights do not fit together.
        UnsupportedByBackend: `backend` was asked for by name and refuses.
        UnknownOption: no backend has that name.
    """
    calls = planned_calls(spec, q, sources, plan, weights=weights, watch=watch)
    state: AttentionState | None = None
    for call in calls:
        part = BACKENDS[choose(call, backend).name].run(call)
        state = part if state is None else merge(state, part)
    if state is None:
        state = AttentionState.identity(q.shape[0], spec.heads.num_heads, spec.heads.v_head_dim, q)
    if spec.sink is Sink.NONE or not q.shape[0]:
        return state
    return merge(state, sink_state(spec, state, weights))


def planned_calls(
    spec: AttentionSpec,
    q: Float[Tensor, "n h d"],
    sources: Sequence[Source],
    plan: AttentionPlan,
    *,
    weights: AttentionWeights = NO_WEIGHTS,
    watch: Watch | None = None,
) -> tuple[AttentionCall, ...]:
    """Check that everything fits, and return one call a source."""
    _check(spec, q, sources, plan, weights, watch)
    firsts = [0] * plan.num_seqs
    calls = []
    for index, (source, keys) in enumerate(zip(sources, plan.keys, strict=True)):
        calls.append(AttentionCall(spec, q, source, plan, index, weights, watch, tuple(firsts)))
        firsts = [first + keys.offsets[seq + 1] - keys.offsets[seq] for seq, first in enumerate(firsts)]
    return tuple(calls)


def sink_state(spec: AttentionSpec, like: AttentionState, weights: AttentionWeights) -> AttentionState:
    """Return the sink as a state: a logit without a value, so `(0, logit)`."""
    logits = like.lse.new_zeros(spec.heads.num_heads)
    if spec.sink is Sink.LEARNED:
        assert weights.sinks is not None
        logits = weights.sinks.to(like.lse.dtype)
    lse = logits.expand_as(like.lse)
    state = AttentionState(torch.zeros_like(like.out), lse, heads=like.heads)
    if like.stats is None:
        return state
    seen, watched = like.stats, state.watched_lse
    stats = Stats(
        mass_lse=None if seen.mass_lse is None else torch.full_like(seen.mass_lse, float("-inf")),
        sink_lse=None if seen.sink_lse is None else watched.clone(),
        mean_score=None if seen.mean_score is None else watched.clone(),
        max_logit=None if seen.max_logit is None else torch.full_like(seen.max_logit, float("-inf")),
        top_logits=None if seen.top_logits is None else torch.full_like(seen.top_logits, float("-inf")),
        top_keys=None if seen.top_keys is None else torch.zeros_like(seen.top_keys),
    )
    return replace(state, stats=stats)


def _check(
    spec: AttentionSpec,
    q: Tensor,
    sources: Sequence[Source],
    plan: AttentionPlan,
    weights: AttentionWeights,
    watch: Watch | None,
) -> None:
    heads = spec.heads
    if q.shape[1:] != (heads.num_heads, heads.head_dim):
        raise AttentionError(
            f"q must be [tokens, {heads.num_heads}, {heads.head_dim}] by its spec; got {tuple(q.shape)}"
        )
    if q.shape[0] != plan.queries.offsets[-1]:
        raise AttentionError(f"q has {q.shape[0]} rows; the plan holds {plan.queries.offsets[-1]} queries")
    if len(sources) != len(plan.keys):
        raise AttentionError(f"{len(sources)} sources were given and {len(plan.keys)} are planned")
    for index, (source, keys) in enumerate(zip(sources, plan.keys, strict=True)):
        expected = (heads.num_kv_heads, heads.head_dim, heads.v_head_dim)
        if source.shape != expected or source.dtype != q.dtype:
            raise AttentionError(
                f"source {index} has (num_kv_heads, head_dim, v_head_dim) {source.shape} in {source.dtype}; "
                f"the spec and q want {expected} in {q.dtype}"
            )
        if source.selection is not None and spec.selection is not None:
            raise AttentionError(
                f"source {index} chooses keys by {source.selection} and the spec by {spec.selection}; one "
                "must do: leave the spec's out"
            )
        # Once for all layers that share this plan and are of one size.
        place = ("checked", index, type(source), source.size)
        if place not in plan.memo:
            source.check(keys)
            plan.memo[place] = True
        if plan.num_segments and keys.segments is None:
            raise AttentionError(
                f"the plan counts {plan.num_segments} segments but source {index} has none; give it ids"
            )
    if spec.sink is Sink.LEARNED and weights.sinks is None:
        raise AttentionError(
            "the spec has learned sinks; pass AttentionWeights(sinks=...) with a logit a head"
        )
    _check_watch(spec, plan, watch)


def _check_watch(spec: AttentionSpec, plan: AttentionPlan, watch: Watch | None) -> None:
    if watch is None:
        return
    if watch.mass and not plan.num_segments:
        raise AttentionError(
            "shares by segment were asked for but the plan has no segments; plan them, or mass=False"
        )
    wrong = [head for head in watch.heads or () if not 0 <= head < spec.heads.num_heads]
    if wrong:
        raise AttentionError(f"heads {wrong} can't be watched; the layer has 0..{spec.heads.num_heads - 1}")
