"""Bundle one source's share of an `attend` call, as backends get it. Knows nothing of softmax."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks import Full, Mask, Pad
from cynosure.attention.plan import AttentionPlan, KeyPlan, QueryPlan
from cynosure.attention.positions import Disentangled, DistanceVectors, NoPosition, score_bias
from cynosure.attention.sources import Source
from cynosure.attention.spec import AttentionSpec, TopK
from cynosure.attention.state import AttentionState
from cynosure.attention.stats import Watch

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """Learned tensors that a spec asks for.

    - `sinks`: the logit of `Sink.LEARNED` for each head.
    - `position_table`: the rows of `T5Bias`, one column a head.
    - `distance_vectors`: what `Disentangled` meets queries and keys with.
    - `bias`: added to every score, the same for all sequences, indexed by the query's place among the
      queries of this pass and by the key's place among its sequence's keys of this source.
    """

    sinks: Float[Tensor, " h"] | None = None
    position_table: Float[Tensor, "num_buckets h"] | None = None
    bias: Float[Tensor, "h max_q max_k"] | None = None
    distance_vectors: DistanceVectors | None = None


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One source under one spec: what a backend gets.

    `index` is the source's place in the plan; `key_firsts` numbers its first key in each sequence, counted
    over all sources.
    """

    spec: AttentionSpec
    q: Float[Tensor, "n h d"]
    source: Source
    plan: AttentionPlan
    index: int
    weights: AttentionWeights
    watch: Watch | None
    key_firsts: tuple[int, ...]

    @property
    def queries(self) -> QueryPlan:
        """Where the queries sit."""
        return self.plan.queries

    @property
    def keys(self) -> KeyPlan:
        """Where the keys of this source sit."""
        return self.plan.keys[self.index]

    @property
    def num_segments(self) -> int:
        """Bound of the segment ids; 0 where shares are not counted."""
        return self.plan.num_segments

    @property
    def grids(self) -> tuple[Grid, ...]:
        """One grid a sequence."""
        return self.plan.grids[self.index]

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, computed once for all layers that share this plan."""
        memo = self.plan.memo
        place = (self.index, key)
        # One look-up: the hash of a spec goes through all its parts.
        found = memo.get(place)
        if found is None:
            found = memo[place] = make()
        return found

    @cached_property
    def mask(self) -> Mask:
        """The mask that holds for this source: padding always, the spec's unless it is always visible."""
        mask: Mask = Full() if self.keys.is_always_visible else self.spec.mask
        return mask if self.keys.is_pad is None else mask & Pad()

    @property
    def selection(self) -> TopK | None:
        """Which keys are chosen by their scores: by the source's own choice, or the spec's."""
        return self.source.selection or self.spec.selection

    @property
    def has_score_bias(self) -> bool:
        """Whether anything but `scale * q.k` and the mask enters the scores."""
        is_positional = self.spec.position.adds_bias and not self.keys.is_always_visible
        return is_positional or self.keys.bias is not None or self.weights.bias is not None

    @property
    def watched_heads(self) -> tuple[int, ...]:
        """The query heads that are observed."""
        heads = self.watch.heads if self.watch is not None else None
        return tuple(range(self.spec.heads.num_heads)) if heads is None else heads

    def rows(self, seq: int) -> slice:
        """Rows of `q` that belong to sequence `seq`."""
        return slice(self.queries.offsets[seq], self.queries.offsets[seq + 1])

    def bias_of(self, grid: Grid) -> Float[Tensor, "#h #q k"] | None:
        """Return what is added to the scores of `grid`, or `None`: position, key and dense bias."""
        terms = []
        position = NoPosition() if self.keys.is_always_visible else self.spec.position
        positional = score_bias(position, grid, self.weights.position_table)
        if positional is not None:
            terms.append(positional)
        if grid.k_bias is not None:
            terms.append(grid.k_bias[None, None])
        if self.weights.bias is not None:
            rows, columns = grid.shape
            terms.append(
                self.weights.bias[
                    :, grid.q_first : grid.q_first + rows, grid.k_first : grid.k_first + columns
                ]
            )
        return (
            torch.stack(torch.broadcast_tensors(*terms)).sum(0) if len(terms) > 1 else next(iter(terms), None)
        )

    def content_bias_of(
        self, q: Float[Tensor, "h q d"], k: Float[Tensor, "h_kv k d"], grid: Grid
    ) -> Float[Tensor, "h q k"] | None:
        """Return what the position adds by what is compared, scaled, or `None`; `bias_of` sees distances."""
        position = self.spec.position
        if not isinstance(position, Disentangled) or self.keys.is_always_visible:
            return None
        added = position.scores(q, k, grid, self.weights.distance_vectors)
        return added * self.scale_of(grid, added.dtype)

    def scale_of(self, grid: Grid, dtype: torch.dtype) -> Float[Tensor, "#q 1"]:
        """Return what multiplies each row of `q.k`: the scale, and log-n of the query's position."""
        scale = self.spec.score.scale_for(self.spec.heads.head_dim)
        log_n = self.spec.score.log_n
        if log_n is None:
            return torch.full((1, 1), scale, dtype=dtype, device=grid.q_positions.device)
        growth = (grid.q_positions + 1).to(dtype).log() / math.log(log_n.train_length)
        return scale * growth.clamp(min=1.0)[:, None]

    def scores_of(
        self, q: Float[Tensor, "h q d"], k: Float[Tensor, "h_kv k d"], grid: Grid
    ) -> Float[Tensor, "h q k"]:
        """Return the finished scores of a tile in the dtype of `q`; forbidden cells are `-inf`."""
        heads, score = self.spec.heads, self.spec.score
        num_rows, num_columns = grid.shape
        grouped = q.reshape(heads.num_kv_heads, heads.group_size * num_rows, q.shape[-1])
        scores = (grouped @ k.transpose(1, 2)).reshape(heads.num_heads, num_rows, num_columns)
        scores = scores * self.scale_of(grid, scores.dtype)
        content = self.content_bias_of(q, k, grid)
        scores = scores if content is None else scores + content
        if score.softcap is not None:
            scores = score.softcap * torch.tanh(scores / score.softcap)
        bias = self.bias_of(grid)
        return scores if bias is None else scores + bias.to(scores.dtype)


class Backend(ABC):
    """A way to compute one source's state."""

    name: str

    @abstractmethod
    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Return why this backend can't serve `call`; empty where it can. Must not look at `call.watch`."""

    @abstractmethod
    def run(self, call: AttentionCall) -> AttentionState:
        """Return the state of `call`'s source; only called where nothing is refused."""
