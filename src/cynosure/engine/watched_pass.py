"""Lay out what is watched and biased in a pass, hand out what was seen. Knows nothing of running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch

from cynosure.engine.watch import AttendedTo, BiasRun, WatchSpec
from cynosure.models.batch import Batch
from cynosure.models.watching import LayerSeen, PassWatch, Shares, WatchedRows, by_layer, shares_of


@dataclass(frozen=True)
class Watched:
    """Which of a sequence's new tokens are watched.

    `first` is the first in the pass that a token is chosen after, and `depths` count on from it: a draft has
    several chosen in one pass.
    """

    spec: WatchSpec
    first: int
    depths: tuple[int, ...]


def pass_watch(
    watched: Sequence[Watched | None], num_new: Sequence[int], num_past: Sequence[int]
) -> PassWatch | None:
    """What a pass is to watch over sequences of so many new tokens behind others; None where nothing is."""
    if not any(watched):
        return None
    first_rows = [0, *accumulate(num_new)]
    parts = [
        WatchedRows(
            sequence,
            tuple(first_rows[sequence] + item.first + depth for depth in item.depths),
            item.spec.runs_over(num_past[sequence] + num_new[sequence]),
            item.spec.num_segments,
            by_layer(item.spec.heads),
            item.spec.folds,
        )
        for sequence, item in enumerate(watched)
        if item is not None
    ]
    return PassWatch(tuple(parts))


def attended_in(
    watched: Sequence[Watched | None], watch: PassWatch, seen: Mapping[int, LayerSeen]
) -> list[tuple[AttendedTo | None, ...]]:
    """What each sequence attended to by depth; None where a depth is not watched."""
    shares = shares_of(watch, seen)
    rows = iter(range(len(watch.rows)))
    told: list[tuple[AttendedTo | None, ...]] = []
    for item in watched:
        if item is None:
            told.append(())
            continue
        found = {depth: _attended(shares, next(rows), item.spec.num_segments) for depth in item.depths}
        told.append(tuple(found.get(depth) for depth in range(item.depths[-1] + 1)))
    return told


def _attended(shares: Shares, row: int, num_segments: int) -> AttendedTo:
    masses = tuple(shares.mass[row, :num_segments].tolist())
    folds = tuple(tuple(fold[:num_segments].tolist()) for fold in shares.folds[row])
    return AttendedTo(masses, float(shares.sink[row]), float(shares.entropy_bits[row]), folds)


def with_bias(batch: Batch, biases: Sequence[tuple[BiasRun, ...]]) -> Batch:
    """Have biases added to the scores of keys; a batch without any stays as it is."""
    if not any(biases):
        return batch
    (keys,) = batch.plan.keys
    added = torch.zeros(keys.positions.numel())
    for (first, stop), runs in zip(pairwise(keys.offsets), biases, strict=True):
        for start, end, nats in runs:
            # A prompt that comes in chunks has its later keys in later passes.
            added[min(first + start, stop) : min(first + end, stop)] = nats
    return replace(batch, plan=batch.plan.with_keys(replace(keys, bias=added)))
