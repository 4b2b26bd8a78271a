"""Hold what kernels wrote of watched rows, and have them fold it. Knows nothing of requests or passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import final

import numpy as np
from jaxtyping import Float32, Int64

from cynosure.kernels.watch_fold import CWatchFold, fold_watched
from cynosure.models.watching import (
    HeadsByLayer,
    LayerSeen,
    PassWatch,
    Shares,
    weights_of,
)

_FLOAT = 4  # bytes

#: Of each part of a watch: its heads, its folds, and how many rows it has.
_Parts = tuple[tuple[HeadsByLayer, tuple[tuple[float, ...], ...], int], ...]


@final
class SeenInRoom(Mapping[int, LayerSeen]):
    """What was seen, by layer, in one room: masses of all layers, then mean scores."""

    def __init__(self, watch: PassWatch, room: Float32[np.ndarray, " numbers"]) -> None:
        """Stand before what was written, or will be."""
        self._watch = watch
        self._room = room

    def __getitem__(self, layer: int) -> LayerSeen:
        return self._layers[layer]

    def __iter__(self) -> Iterator[int]:
        return (layer for layer, _ in self._watch.heads)

    def __len__(self) -> int:
        return len(self._watch.heads)

    def folded(self, watch: PassWatch) -> Shares | None:
        """What `shares_of` gives, by one call; None where a head sees nothing.

        It stands between any two tokens of an answer, where caches are cold: a call of numpy costs more there
        than all of this arithmetic.
        """
        parts = tuple((part.heads, part.folds, len(part.rows)) for part in watch.parts)
        plan = _plan_of(watch.heads, parts, watch.num_segments)
        out = np.empty(plan.num_shares + plan.num_rows, np.float32)
        # The plan is shared: another engine of this process may be at it too.
        call, mass = CWatchFold.from_buffer_copy(plan.call), _address(self._room)
        call.mass, call.mean_score = mass, mass + _FLOAT * self._num_masses
        call.shares = _address(out)
        call.entropy = call.shares + _FLOAT * plan.num_shares
        if not fold_watched(call):
            return None
        shares = out[: plan.num_shares].reshape(plan.num_rows, plan.max_folds, -1)
        folds = tuple(shares[row, 1:count] for row, count in enumerate(plan.counts))
        return Shares(shares[:, 0], plan.no_sinks, out[plan.num_shares :], folds)

    @property
    def _num_masses(self) -> int:
        num_heads = sum(len(heads) for _, heads in self._watch.heads)
        return len(self._watch.rows) * num_heads * self._watch.num_segments

    @cached_property
    def _layers(self) -> dict[int, LayerSeen]:
        masses, mean_scores = self._room[: self._num_masses], self._room[self._num_masses :]
        num_rows, found = len(self._watch.rows), dict[int, LayerSeen]()
        for layer, heads in self._watch.heads:
            size = num_rows * len(heads)
            num_masses = size * self._watch.num_segments
            found[layer] = LayerSeen(
                masses[:num_masses].reshape(num_rows, len(heads), -1),
                mean_scores[:size].reshape(num_rows, len(heads)),
            )
            masses, mean_scores = masses[num_masses:], mean_scores[size:]
        return found


@dataclass(frozen=True, eq=False)
class _Plan:
    """A call that lacks what changes from step to step, and what its addresses point to."""

    call: CWatchFold
    counts: tuple[int, ...]
    max_folds: int
    num_shares: int
    no_sinks: Float32[np.ndarray, " rows"]
    kept: tuple[np.ndarray, ...]

    @property
    def num_rows(self) -> int:
        return len(self.counts)


@lru_cache(maxsize=256)
def _plan_of(watched: HeadsByLayer, parts: _Parts, num_segments: int) -> _Plan:
    weights = [weights_of(watched, heads, folds) for heads, folds, num_rows in parts for _ in range(num_rows)]
    num_heads: Int64[np.ndarray, " layers"] = np.array([len(heads) for _, heads in watched], np.int64)
    addresses = np.array([_address(own) for own in weights], np.int64)
    counts = np.array([len(own) for own in weights], np.int64)
    call = CWatchFold(
        num_heads=_address(num_heads),
        num_layers=len(num_heads),
        num_rows=len(weights),
        num_segments=num_segments,
        weights=_address(addresses),
        num_folds=_address(counts),
        max_folds=int(counts.max()),
    )
    return _Plan(
        call,
        tuple(counts.tolist()),
        int(counts.max()),
        len(weights) * int(counts.max()) * num_segments,
        np.zeros(len(weights), np.float32),
        (num_heads, addresses, counts, *weights),
    )


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
