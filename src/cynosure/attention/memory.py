"""Weigh a memory against the context by a gate, and tell what a search misses. Knows nothing of indices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.attend import attend
from cynosure.attention.memory_source import MemorySource
from cynosure.attention.plan import AttentionPlan
from cynosure.attention.spec import AttentionSpec
from cynosure.attention.state import AttentionState
from cynosure.attention.stats import Watch
from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class Recall:
    """What a search found of what all keys, scored exactly, would have given.

    - `keys`: the share of each query's and head's best keys that was found, the mean over all.
    - `attention`: the share of the best keys' attention that falls on those that were found: their
      denominators, one over the other, the mean over all. Missing a key of no weight costs nothing here.
    """

    keys: float
    attention: float


def recall_of(spec: AttentionSpec, q: Float[Tensor, "n h d"], memory: MemorySource) -> Recall:
    """Compare a memory's search with scoring every key.

    Raises:
        AttentionError: there is nothing to compare: no query, no key, or no search.
    """
    if memory.search is None or not memory.size or not q.shape[0]:
        raise AttentionError(
            f"recall compares a search with exact scores; got {q.shape[0]} queries, {memory.size} keys and "
            f"the search {memory.search}. Give some of each"
        )
    found, found_rows = _best(spec, q, memory)
    exact, exact_rows = _best(spec, q, replace(memory, search=None))
    is_found = (exact_rows[..., :, None] == found_rows[..., None, :]).any(-1)
    return Recall(float(is_found.double().mean()), float((found.lse - exact.lse).exp().double().mean()))


def mix_by_gate(
    local: AttentionState, remembered: AttentionState, gate: Float[Tensor, " h"]
) -> Float[Tensor, "n h d"]:
    """Return `sigmoid(gate) * remembered + (1 - sigmoid(gate)) * local`, a logit a head.

    Both are softmaxes of their own (arXiv 2203.08913, section 3.2); `merge` is one over both. A row that
    remembers nothing keeps what it has locally.

    Raises:
        AttentionError: the states, or the gate, are of different heads or rows.
    """
    if local.out.shape != remembered.out.shape or gate.shape != local.lse.shape[1:]:
        raise AttentionError(
            f"a gate has a logit a head, and both states one shape; got {tuple(gate.shape)}, "
            f"{tuple(local.out.shape)} and {tuple(remembered.out.shape)}"
        )
    weight = torch.sigmoid(gate.to(local.out.dtype)).expand_as(local.lse)
    weight = weight.masked_fill(torch.isneginf(remembered.lse), 0.0)[..., None]
    return weight * remembered.out + (1.0 - weight) * local.out


def _best(
    spec: AttentionSpec, q: Float[Tensor, "n h d"], memory: MemorySource
) -> tuple[AttentionState, Int[Tensor, "n h t"]]:
    """Return the state and the rows that were attended to; -1 where a search found fewer."""
    plan = AttentionPlan.of_lengths([q.shape[0]]).with_keys(memory.keys_for(1))
    watch = Watch(mass=False, top_k=min(memory.num_best, memory.size))
    state = attend(spec, q, [memory], plan, watch=watch)
    assert state.stats is not None
    rows, logits = state.stats.top_keys, state.stats.top_logits
    assert rows is not None
    assert logits is not None
    return state, rows.masked_fill(torch.isneginf(logits), -1)
