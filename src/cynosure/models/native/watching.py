"""Have a program of kernel calls tell what watched rows attend to. Knows nothing of requests or averages.

The statistics come from the pass itself: a watched layer's call writes them beside its output, for the
watched rows alone, and no other row pays for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import final

import numpy as np
from jaxtyping import Int64

from cynosure.kernels.attention import NOT_WATCHED, CAttentionCall
from cynosure.kernels.program import CPages, CSeen
from cynosure.models.native.seen import SeenInRoom
from cynosure.models.watching import PassWatch, WatchedRows

_FLOAT = 4  # bytes


@final
class NativeObserver:
    """What one pass is to observe, and the memory that the kernels write it to."""

    def __init__(self, watch: PassWatch, num_tokens: int, num_sequences: int) -> None:
        """Reserve the memory; a sequence that is not watched has no runs."""
        self._watch = watch
        self._rows = np.full(num_tokens, NOT_WATCHED, np.int64)
        self._rows[list(watch.rows)] = np.arange(len(watch.rows))
        counts = np.zeros(num_sequences + 1, np.int64)
        for part in watch.parts:
            counts[part.sequence + 1] = len(part.runs)
        self._offsets = counts.cumsum()
        self._runs = np.array([run for part in watch.parts for run in part.runs], np.int64)
        # One room for all layers: masses first, then mean scores.
        num_rows, num_heads = len(watch.rows), sum(len(heads) for _, heads in watch.heads)
        self._num_masses = num_rows * num_heads * watch.num_segments
        self._room = np.empty(self._num_masses + num_rows * num_heads, np.float32)
        self._structs: Sequence[CAttentionCall] = ()

    def goes_on(self, watch: PassWatch, num_sequences: int) -> bool:
        """Take what a step watches, where it is what the last one did and keys have become more alone."""
        parts, before = watch.parts, self._watch.parts
        if len(parts) != len(before) or len(self._offsets) != num_sequences + 1:
            return False
        if not all(_is_alike(part, last) for part, last in zip(parts, before, strict=True)):
            return False
        place = -1
        for part in parts:
            place += len(part.runs)
            self._runs[place, 2] = part.runs[-1][2]
        self._watch = watch
        return True

    def begin(self, structs: Sequence[CAttentionCall], pages: Mapping[int, CPages]) -> None:
        """Have the calls of a pass write what is watched; `end` takes that back."""
        self._structs = structs
        num_segments, runs, offsets = self._watch.num_segments, _address(self._runs), _address(self._offsets)
        rows = _address(self._rows)
        for struct in structs:
            struct.num_segments, struct.runs, struct.run_offsets = num_segments, runs, offsets
            struct.watched_rows = rows
        mass = _address(self._room)
        mean_score = mass + _FLOAT * self._num_masses
        for layer, heads in self._watch.heads:
            seen, (array, address) = pages[layer].seen, _array_of(heads)
            seen.num_watched, seen.watched_heads = array.size, address
            seen.mass, seen.mean_score = mass, mean_score
            mean_score += _FLOAT * len(self._watch.rows) * len(heads)
            mass += _FLOAT * len(self._watch.rows) * len(heads) * num_segments

    def end(self, pages: Mapping[int, CPages]) -> None:
        """Have the next pass watch nothing, unless it is told to."""
        for struct in self._structs:
            struct.num_segments, struct.runs, struct.run_offsets, struct.watched_rows = 0, None, None, None
        for layer, _ in self._watch.heads:
            ctypes.memset(ctypes.addressof(pages[layer].seen), 0, ctypes.sizeof(CSeen))

    @property
    def seen(self) -> SeenInRoom:
        """What was written; where the observer goes on, the next step writes over it."""
        return SeenInRoom(self._watch, self._room)

    def seen_apart(self) -> SeenInRoom:
        """What was written, and is written over by nobody."""
        return SeenInRoom(self._watch, self._room.copy())


def _is_alike(part: WatchedRows, last: WatchedRows) -> bool:
    """Whether the same is watched, save that the last run may end elsewhere."""
    is_same = (part.sequence, part.rows, part.num_segments) == (last.sequence, last.rows, last.num_segments)
    runs, before = part.runs, last.runs
    return (
        is_same and part.heads == last.heads and runs[-1][:2] == before[-1][:2] and runs[:-1] == before[:-1]
    )


@lru_cache(maxsize=256)
def _array_of(heads: tuple[int, ...]) -> tuple[Int64[np.ndarray, " heads"], int]:
    """Heads as the kernels read them, and where they lie."""
    array = np.array(heads, np.int64)
    return array, _address(array)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
