"""Hold what all layers of one forward pass share. Knows nothing of projections, norms or vocabularies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import (
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    Source,
    Watch,
    attend,
)
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.positions import Rotary, RotaryTable, apply
from cynosure.cache import ContiguousCache, LayerShape
from cynosure.models.batch import Batch


class ForwardPass:
    """One batch on its way through the layers.

    Args:
        batch: the new tokens.
        cache: keys and values of what came before; `None` where the batch is all there is.
        watch: what to observe, in the layers `watched` only (`None`: in all).
        backend: of attention, by name.

    `states` collects what was observed, by layer: log-sum-exps and statistics, without the outputs.
    """

    def __init__(
        self,
        batch: Batch,
        cache: ContiguousCache | None = None,
        *,
        watch: Watch | None = None,
        watched: Collection[int] | None = None,
        backend: str = "auto",
    ) -> None:
        """Start before the first layer.

        Raises:
            InputTooLong: the cache has no room for the batch.
        """
        if cache is not None:
            cache.check_room(batch.new_lens)
            planned = [keys - new for keys, new in zip(_key_lens(batch), batch.new_lens, strict=True)]
            assert planned == cache.lengths, (
                f"batch expects {planned} tokens in a cache that holds {cache.lengths}"
            )
        self.batch = batch
        self.cache = cache
        self.backend = backend
        self.states: dict[int, AttentionState] = {}
        self._watch = watch
        self._watched = watched
        self._tables: dict[tuple[Rotary, torch.dtype], RotaryTable] = {}

    def rotate(self, position: Rotary, x: Float[Tensor, "n h d"]) -> Float[Tensor, "n h d"]:
        """Put the new tokens' queries or keys at their positions; layers of one kind share a table."""
        key = (position, x.dtype)
        if key not in self._tables:
            self._tables[key] = position.tables(self.batch.positions, x.dtype)
        return apply(x, self._tables[key])

    def extend(self, layer: int, k: Float[Tensor, "n h d"], v: Float[Tensor, "n h dv"]) -> DenseSource:
        """Return all keys and values of a layer: the new ones, behind those in the cache."""
        if self.cache is None:
            return DenseSource(k, v)
        self.cache.write(layer, k, v, self.batch.new_lens)
        return DenseSource(*self.cache.rows(layer))

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        q: Float[Tensor, "n h d"],
        source: Source,
        weights: AttentionWeights = NO_WEIGHTS,
    ) -> Float[Tensor, "n h dv"]:
        """Return what the queries of a layer get, in their dtype."""
        is_watched = self._watch is not None and (self._watched is None or layer in self._watched)
        watch = self._watch if is_watched else None
        state = attend(spec, q, [source], self.batch.plan, weights=weights, watch=watch, backend=self.backend)
        if is_watched:
            self.states[layer] = replace(state, out=state.out[..., :0])
        return state.out.to(q.dtype)

    def finish(self) -> None:
        """Count the batch's tokens in the cache; every layer has written them."""
        if self.cache is not None:
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


def _key_lens(batch: Batch) -> list[int]:
    offsets = batch.plan.keys[0].offsets
    return [stop - start for start, stop in pairwise(offsets)]
