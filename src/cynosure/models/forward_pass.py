"""Hold what all layers of one forward pass share. Knows nothing of projections, norms or vocabularies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    PagedSource,
    PageScales,
    Source,
    Watch,
    attend,
)
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.chosen_keys import by_query
from cynosure.attention.positions import Rotary, RotaryTable, apply
from cynosure.cache import ContiguousCache, LayerShape, PagedCache, Places, StatePath, StateShape
from cynosure.models.batch import Batch
from cynosure.models.state_pass import Advance, StatePass
from cynosure.models.watching import Observer

KeyValueCache: TypeAlias = ContiguousCache | PagedCache
StoredSource: TypeAlias = DenseSource | PagedSource


class ForwardPass:
    """One batch on its way through the layers.

    Args:
        batch: the new tokens.
        cache: keys and values of what came before; `None` where the batch is all there is.
        watch: what to observe, in the layers `watched` only (`None`: in all).
        backend: of attention, by name.
        observer: what serving watches: rows of some sequences, beside the pass.

    `states` collects what was observed, by layer: log-sum-exps and statistics, without the outputs.
    """

    def __init__(
        self,
        batch: Batch,
        cache: KeyValueCache | None = None,
        *,
        watch: Watch | None = None,
        watched: Collection[int] | None = None,
        backend: str = "auto",
        observer: Observer | None = None,
    ) -> None:
        """Start before the first layer.

        Raises:
            InputTooLong: the cache has no room for the batch.
        """
        self._slots: tuple[Int[Tensor, " n"], ...] = ()
        self._plans = (batch.plan,)
        if isinstance(cache, ContiguousCache):
            cache.check_room(batch.new_lens)
            planned = _past_lens(batch)
            assert planned == cache.lengths, (
                f"batch expects {planned} tokens in a cache that holds {cache.lengths}"
            )
        elif isinstance(cache, PagedCache):
            places = places_of(cache, batch)
            self._slots = tuple(one.slots for one in places)
            self._plans = plans_of(batch.plan, places)
        self.batch = batch
        self.cache = cache
        self.backend = backend
        self.states: dict[int, AttentionState] = {}
        self._watch = watch
        self._watched = watched
        self._observer = observer
        #: What the layers know of the pass's tokens beside what goes through them; `altup` says what.
        self.layer_inputs: Float[Tensor, "n layers width"] | None = None
        self._read_again: dict[int, DenseSource] = {}
        self._tables: dict[tuple[Rotary, torch.dtype], RotaryTable] = {}
        self._through_states: StatePass | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anything is observed."""
        return self._watch is not None or self._observer is not None

    @property
    def plan(self) -> AttentionPlan:
        """Where the keys of layers without a window lie."""
        return self._plans[0]

    def rotate(self, position: Rotary, x: Float[Tensor, "n h d"]) -> Float[Tensor, "n h d"]:
        """Put the new tokens' queries or keys at their positions; layers of one kind share a table."""
        key = (position, x.dtype)
        if key not in self._tables:
            self._tables[key] = position.tables(self.batch.positions, x.dtype)
        return apply(x, self._tables[key])

    def extend(
        self,
        layer: int,
        k: Float[Tensor, "n h d"],
        v: Float[Tensor, "n h dv"],
        *,
        is_read_again: bool = False,
    ) -> StoredSource:
        """Return all keys and values of a layer: the new ones, behind those in the cache.

        Where no cache holds them, those that a later layer reads again are kept until the end of the pass.
        """
        if isinstance(self.cache, PagedCache):
            self.cache.write(layer, k, v, self._slots[self.cache.group_of(layer)])
        elif self.cache is not None:
            self.cache.write(layer, k, v, self.batch.new_lens)
        else:
            source = DenseSource(k, v)
            if is_read_again:
                self._read_again[layer] = source
            return source
        return self.extended(layer, k.dtype)

    def extended(self, layer: int, dtype: torch.dtype) -> StoredSource:
        """Return what `extend` gave for an earlier layer of this pass, to be read in `dtype`."""
        if isinstance(self.cache, PagedCache):
            return paged_source(self.cache, layer, dtype)
        return self._read_again[layer] if self.cache is None else DenseSource(*self.cache.rows(layer))

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: Source,
        weights: AttentionWeights = NO_WEIGHTS,
    ) -> Float[Tensor, "n h dv"]:
        """Return what the queries of a layer get, in their dtype."""
        group = self.cache.group_of(layer) if isinstance(self.cache, PagedCache) else 0
        plan = self._plans[group]
        out = self._attended(layer, spec, q, source, plan, weights)
        if self._observer is not None:
            self._observer.observe(layer, spec, q, source, plan, weights)
        return out

    def attend_to_chosen(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: StoredSource,
        chosen: Int[Tensor, "n num_chosen"],
    ) -> Float[Tensor, "n h dv"]:
        """Return what queries get from keys that were chosen for each, of a layer without a window."""
        own, plan = by_query(self.plan, source, chosen)
        out = self._attended(layer, spec, q, own, plan, NO_WEIGHTS)
        if self._observer is not None:
            self._observer.observe_chosen(layer, spec, q, own, plan, chosen)
        return out

    def _attended(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: Source,
        plan: AttentionPlan,
        weights: AttentionWeights,
    ) -> Float[Tensor, "n h dv"]:
        is_watched = self._watch is not None and (self._watched is None or layer in self._watched)
        watch = self._watch if is_watched else None
        state = attend(spec, q, [source], plan, weights=weights, watch=watch, backend=self.backend)
        if is_watched:
            self.states[layer] = replace(state, out=state.out[..., :0])
        return state.out.to(q.dtype)

    def through_states(
        self, layer: int, shape: StateShape, inputs: Float[Tensor, "n width"], advance: Advance
    ) -> Float[Tensor, "n out"]:
        """Return what each token reads of a layer's states, which `advance` takes from token to token."""
        if self._through_states is None:
            store = None if self.cache is None else self.cache.states
            self._through_states = StatePass(self.batch, store, self._state_paths())
        return self._through_states.run(layer, shape, inputs, advance)

    def _state_paths(self) -> Sequence[StatePath] | None:
        if self.cache is None:
            return None
        if isinstance(self.cache, ContiguousCache):
            return [StatePath(seq) for seq in range(len(self.batch.new_lens))]
        assert self.batch.states is not None, (
            "pages beside states need a batch that says in which slots they are"
        )
        return self.batch.states

    def finish(self) -> None:
        """Count the batch's tokens in a contiguous cache; every layer has written them.

        How far pages are filled is known to whoever holds them; whoever does commits the states beside them.
        """
        if isinstance(self.cache, ContiguousCache):
            self.cache.advance(self.batch.new_lens)


class AttentionBlock(nn.Module, ABC):
    """What stands in the attention half of a layer."""

    @property
    @abstractmethod
    def cache_shape(self) -> LayerShape:
        """What a cache keeps of each token of this layer."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""


def paged_source(cache: PagedCache, layer: int, dtype: torch.dtype) -> PagedSource:
    """Return a layer's pages, to be read in the dtype that the model computes in."""
    scales = cache.scales(layer)
    return PagedSource(
        *cache.pages(layer), scales=None if scales is None else PageScales(*scales), read_dtype=dtype
    )


def places_of(cache: PagedCache, batch: Batch) -> tuple[Places, ...]:
    """Return where each group of layers finds a batch's sequences and puts its tokens.

    Raises:
        InputTooLong: a sequence's pages do not hold its new tokens.
    """
    block_table = batch.plan.keys[0].block_table
    assert block_table is not None, "a paged cache needs a batch that was packed with block_tables"
    return cache.places(block_table, _past_lens(batch), batch.new_lens)


def plans_of(plan: AttentionPlan, places: Sequence[Places]) -> tuple[AttentionPlan, ...]:
    """Return the plan of each group of layers: the same, over pages of its own."""
    tables = [replace(plan.keys[0], block_table=one.block_table) for one in places[1:]]
    return (plan, *(plan.with_keys(keys) for keys in tables))


def _past_lens(batch: Batch) -> list[int]:
    """Tokens of each sequence that came before this batch."""
    lens = [stop - start for start, stop in pairwise(batch.plan.keys[0].offsets)]
    return [keys - new for keys, new in zip(lens, batch.new_lens, strict=True)]
