"""Say which queries of a pass are watched, and fold what they attended to. Knows nothing of requests.

A pass computes what it computes; beside it, the rows that are watched give the log-sum-exp of the scores of
each segment. Averages over heads and layers are taken of shares, which sum to 1 for each head.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, AttentionWeights, Source, Watch, attend
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.chosen_keys import NO_KEY
from cynosure.attention.plan import KeyPlan, QueryPlan, cumulative

#: Keys `start <= key < stop` of a sequence belong to a segment: `(segment, start, stop)`.
SegmentRun = tuple[int, int, int]
#: Bits of a nat.
BITS_OF_A_NAT = np.float32(1.0 / math.log(2.0))
#: Layers and query heads of each, sorted.
HeadsByLayer = tuple[tuple[int, tuple[int, ...]], ...]


@lru_cache(maxsize=256)
def by_layer(heads: tuple[tuple[int, int], ...]) -> HeadsByLayer:
    """Sorted pairs of a layer and a head, by layer."""
    groups = groupby(heads, key=lambda pair: pair[0])
    return tuple((layer, tuple(head for _, head in pairs)) for layer, pairs in groups)


@dataclass(frozen=True)
class WatchedRows:
    """Queries of one sequence, as rows of the batch, and to whom its keys belong.

    `runs` cover all keys of the sequence in order; a segment may have several runs, or none yet. `folds` are
    weights of the heads.
    """

    sequence: int
    rows: tuple[int, ...]
    runs: tuple[SegmentRun, ...]
    num_segments: int
    heads: HeadsByLayer
    folds: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class PassWatch:
    """What is watched in a pass, its sequences in order."""

    parts: tuple[WatchedRows, ...]

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """All watched rows of the batch, in order."""
        return tuple(row for part in self.parts for row in part.rows)

    @cached_property
    def num_segments(self) -> int:
        """The most that a sequence has."""
        return max(part.num_segments for part in self.parts)

    @cached_property
    def heads(self) -> HeadsByLayer:
        """The heads that somebody watches."""
        first = self.parts[0].heads
        if all(part.heads is first for part in self.parts):
            return first
        pairs = {(layer, head) for part in self.parts for layer, heads in part.heads for head in heads}
        return by_layer(tuple(sorted(pairs)))


@dataclass(frozen=True, eq=False)
class Shares:
    """What each watched row attended to, averaged over its heads; `mass` and `sink` sum to 1.

    `folds` are, for each row, the same shares under weights that its sequence asked for.
    """

    mass: Float32[np.ndarray, "rows segments"]
    sink: Float32[np.ndarray, " rows"]
    entropy_bits: Float32[np.ndarray, " rows"]
    folds: tuple[Float32[np.ndarray, "_ segments"], ...]


@dataclass(frozen=True, eq=False)
class LayerSeen:
    """Log-sum-exps and mean scores of a layer's watched heads, in nats; `sink_lse` where there is a sink."""

    mass_lse: Float32[np.ndarray, "rows heads segments"]
    mean_score: Float32[np.ndarray, "rows heads"]
    sink_lse: Float32[np.ndarray, "rows heads"] | None = None


@runtime_checkable
class FoldsItself(Protocol):
    """What was seen, where whoever holds it can fold it faster than we can."""

    def folded(self, watch: PassWatch) -> Shares | None:
        """What `any_shares_of` gives; None where it can't be done."""
        ...


def shares_of(watch: PassWatch, seen: Mapping[int, LayerSeen]) -> Shares:
    """Average each row over the heads that are watched in its sequence."""
    folded = seen.folded(watch) if isinstance(seen, FoldsItself) else None
    return any_shares_of(watch, seen) if folded is None else folded


def any_shares_of(watch: PassWatch, seen: Mapping[int, LayerSeen]) -> Shares:
    """What `shares_of` gives, in plain numpy: also where layers have sinks, or a head sees nothing."""
    layers = [seen[layer] for layer, _ in watch.heads]
    mass_lse = _side_by_side([layer.mass_lse for layer in layers])
    mean_score = _side_by_side([layer.mean_score for layer in layers])
    total = np.logaddexp.reduce(mass_lse, axis=-1)
    sink_lse = None
    if any(layer.sink_lse is not None for layer in layers):
        none = np.full_like(layers[0].mean_score, -np.inf)
        sink_lse = _side_by_side([none if one.sink_lse is None else one.sink_lse for one in layers])
        total = np.logaddexp(total, sink_lse)
    # A head that sees nothing attends to nothing.
    sees = total > -np.inf
    floor = np.where(sees, total, np.float32(0))
    weights = np.concatenate([_weights(watch.heads, part.heads, len(part.rows)) for part in watch.parts])
    shares = np.exp(mass_lse - floor[..., None])
    mass = (weights[:, None] @ shares)[:, 0]
    entropy = (weights * (floor - np.where(sees, mean_score, np.float32(0)))).sum(-1)
    sink = np.zeros(len(weights), np.float32)
    if sink_lse is not None:
        sink = (weights * np.exp(sink_lse - floor)).sum(-1)
    return Shares(mass, sink, entropy * BITS_OF_A_NAT, tuple(_folded(watch, shares)))


def _folded(
    watch: PassWatch, shares: Float32[np.ndarray, "rows heads segments"]
) -> Iterator[Float32[np.ndarray, "folds segments"]]:
    """The shares of each row under the weights of its sequence, of heads that somebody watches."""
    row = 0
    for part in watch.parts:
        weights = _fold_weights(watch.heads, part.heads, part.folds)
        for _ in part.rows:
            yield weights @ shares[row]
            row += 1


def _side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The heads of all layers."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)


@lru_cache(maxsize=256)
def _weights(watched: HeadsByLayer, wanted: HeadsByLayer, num_rows: int) -> Float32[np.ndarray, "rows heads"]:
    """What each watched head counts for the rows of a sequence: the same, or nothing."""
    own = set(_pairs(wanted))
    counts = [float(pair in own) for pair in _pairs(watched)]
    return np.tile(np.array(counts, np.float32) / np.float32(len(own)), (num_rows, 1))


@lru_cache(maxsize=256)
def weights_of(
    watched: HeadsByLayer, wanted: HeadsByLayer, folds: tuple[tuple[float, ...], ...]
) -> Float32[np.ndarray, "mean_and_folds heads"]:
    """What each watched head counts for a sequence that wants some: for the mean, and then for its folds."""
    return np.concatenate([_weights(watched, wanted, 1), _fold_weights(watched, wanted, folds)])


@lru_cache(maxsize=256)
def _fold_weights(
    watched: HeadsByLayer, wanted: HeadsByLayer, folds: tuple[tuple[float, ...], ...]
) -> Float32[np.ndarray, "folds heads"]:
    """The weights of a sequence's folds over all watched heads: nothing for those that others watch."""
    places = {(layer, head): place for place, (layer, head) in enumerate(_pairs(watched))}
    weights = np.zeros((len(folds), len(places)), np.float32)
    for pair, column in zip(_pairs(wanted), zip(*folds, strict=True), strict=False):
        weights[:, places[pair]] = column
    return weights


def _pairs(heads: HeadsByLayer) -> Iterator[tuple[int, int]]:
    return ((layer, head) for layer, own in heads for head in own)


@dataclass(frozen=True, eq=False)
class Observer:
    """Watches a pass that runs as modules: what is watched is computed a second time, for its rows alone.

    So whatever computes the output, in whatever splits, watching can't change it.
    """

    watch: PassWatch
    seen: dict[int, LayerSeen] = field(default_factory=dict)
    _plans: dict[int, tuple[AttentionPlan, AttentionPlan]] = field(default_factory=dict)

    def observe(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: Source,
        plan: AttentionPlan,
        weights: AttentionWeights,
    ) -> None:
        """Keep what the watched rows of a layer attend to, where it is watched."""
        heads = dict(self.watch.heads).get(layer)
        if heads is None:
            return
        if id(plan) not in self._plans:
            # The whole plan is kept too: its id is its own while it lives.
            self._plans[id(plan)] = plan, _plan_of_rows(plan, self.watch)
        _, own = self._plans[id(plan)]
        rows = torch.tensor(self.watch.rows, device=q.device)
        wanted = Watch(entropy=True, heads=heads)
        state = attend(spec, q[rows], [source], own, weights=weights, watch=wanted)
        assert state.stats is not None
        mass, sink, mean = state.stats.mass_lse, state.stats.sink_lse, state.stats.mean_score
        assert mass is not None
        assert mean is not None
        self.seen[layer] = LayerSeen(_numbers(mass), _numbers(mean), None if sink is None else _numbers(sink))

    def observe_chosen(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: Source,
        plan: AttentionPlan,
        chosen: Int[Tensor, "n num_chosen"],
    ) -> None:
        """Do what `observe` does where `plan` has each query by itself, with keys that were chosen for it."""
        own = Observer(_each_alone(self.watch, chosen))
        own.observe(layer, spec, q, source, plan, NO_WEIGHTS)
        self.seen.update(own.seen)


def _each_alone(watch: PassWatch, chosen: Int[Tensor, "n num_chosen"]) -> PassWatch:
    """The same rows, each a sequence of the keys chosen for it; `chosen` is in order, `NO_KEY` behind."""
    parts = []
    for part in watch.parts:
        for row in part.rows:
            own = [key for key in chosen[row].tolist() if key != NO_KEY]
            bounds = [(of, bisect_left(own, start), bisect_left(own, stop)) for of, start, stop in part.runs]
            parts.append(replace(part, sequence=row, rows=(row,), runs=tuple(bounds)))
    return PassWatch(tuple(parts))


def _plan_of_rows(plan: AttentionPlan, watch: PassWatch) -> AttentionPlan:
    """The same keys for the watched sequences, and their watched queries alone."""
    queries, (keys,) = plan.queries, plan.keys
    assert keys.block_table is not None, "what is watched is in pages"
    assert queries.nodes is None, "trees are not watched"
    rows = torch.tensor(watch.rows, device=queries.positions.device)
    sequences = torch.tensor([part.sequence for part in watch.parts], device=rows.device)
    spans = [(keys.offsets[part.sequence], keys.offsets[part.sequence + 1]) for part in watch.parts]
    columns = torch.cat([torch.arange(start, stop, device=rows.device) for start, stop in spans])
    segments = [
        torch.full((stop - start,), segment) for part in watch.parts for segment, start, stop in part.runs
    ]
    chosen = KeyPlan(
        cumulative([stop - start for start, stop in spans]).to(rows.device),
        keys.positions[columns],
        block_table=keys.block_table[sequences],
        segments=torch.cat(segments).to(rows.device),
        documents=None if keys.documents is None else keys.documents[columns],
        spans=None if keys.spans is None else keys.spans[columns],
        bias=None if keys.bias is None else keys.bias[columns],
        is_always_visible=keys.is_always_visible,
    )
    asking = QueryPlan(
        cumulative([len(part.rows) for part in watch.parts]).to(rows.device),
        queries.positions[rows],
        documents=None if queries.documents is None else queries.documents[rows],
        spans=None if queries.spans is None else queries.spans[rows],
    )
    return replace(plan, queries=asking, keys=(chosen,), num_segments=watch.num_segments)


def _numbers(values: Tensor) -> Float32[np.ndarray, "..."]:
    return values.float().cpu().numpy()
