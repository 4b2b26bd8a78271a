"""Keep states of constant size in slots, one for each sequence. Knows nothing of who holds a slot.

A pass hands its states in by `put`; they are there once `commit` was called. So a pass that fails on its way
leaves every slot as it was, and may be run again: a state, other than a key, can't be written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MATRIX = torch.float32


@dataclass(frozen=True)
class StateShape:
    """What one layer remembers of a whole sequence, however long.

    The last `tail` inputs of a convolution, of `channels` each, in the model's dtype; and `heads` matrices of
    `rows` by `columns` in float32, since a recurrence adds to them at every token.
    """

    tail: int
    channels: int
    heads: int
    rows: int
    columns: int

    def num_bytes(self, dtype: torch.dtype) -> int:
        """What one sequence's state takes."""
        matrix = self.heads * self.rows * self.columns * MATRIX.itemsize
        return self.tail * self.channels * dtype.itemsize + matrix

    def empty(self, num_seqs: int, dtype: torch.dtype) -> LayerState:
        """Return the state before the first token."""
        return LayerState(
            torch.zeros(num_seqs, self.tail, self.channels, dtype=dtype),
            torch.zeros(num_seqs, self.heads, self.rows, self.columns, dtype=MATRIX),
        )


@dataclass(frozen=True, eq=False)
class LayerState:
    """One layer's states of some sequences."""

    tail: Float[Tensor, "n tail channels"]
    matrix: Float[Tensor, "n heads rows columns"]

    def of(self, places: Sequence[int]) -> LayerState:
        """Return those of some of the sequences, as a view where these follow each other."""
        rows = _rows(places)
        return LayerState(self.tail[rows], self.matrix[rows])

    @classmethod
    def joined(cls, states: Sequence[LayerState]) -> LayerState:
        """Return the states of several, in order."""
        return cls(torch.cat([one.tail for one in states]), torch.cat([one.matrix for one in states]))


@dataclass(frozen=True)
class StatePath:
    """Where a sequence's states go in a pass.

    `slot` holds them before and after it; `copies` are `(number of new tokens, slot)`, rising: the states
    after so many of the pass's tokens are put there besides.
    """

    slot: int
    copies: tuple[tuple[int, int], ...] = ()


def bytes_per_slot(shapes: Sequence[StateShape | None], dtype: torch.dtype) -> int:
    """Return what one sequence takes in all layers together; `None` is a layer that has no state."""
    return sum(shape.num_bytes(dtype) for shape in shapes if shape is not None)


class StateStore:
    """`num_slots` states of every layer that has one. `lengths` counts the tokens that each slot has seen."""

    def __init__(self, shapes: Sequence[StateShape | None], num_slots: int, dtype: torch.dtype) -> None:
        """Reserve all slots at once; nothing grows later."""
        self.num_slots = num_slots
        self.lengths = [0] * num_slots
        self.slot_bytes = bytes_per_slot(shapes, dtype)
        self._layers = {
            layer: LayerState(
                torch.empty(num_slots, shape.tail, shape.channels, dtype=dtype),
                torch.empty(num_slots, shape.heads, shape.rows, shape.columns, dtype=MATRIX),
            )
            for layer, shape in enumerate(shapes)
            if shape is not None
        }
        self._put: list[tuple[int, tuple[int, ...], LayerState]] = []
        self._put_lengths: dict[int, int] = {}

    @property
    def num_bytes(self) -> int:
        """What all slots take."""
        return self.num_slots * self.slot_bytes

    def read(self, layer: int, slots: Sequence[int]) -> LayerState:
        """Return the states of a layer in these slots, as they were committed; not to be written to."""
        return self._layers[layer].of(slots)

    def put(self, layer: int, slots: Sequence[int], state: LayerState) -> None:
        """Have slots hold these states once `commit` is called."""
        self._put.append((layer, tuple(slots), state))

    def put_lengths(self, lengths: dict[int, int]) -> None:
        """Say how many tokens slots will have seen then."""
        self._put_lengths.update(lengths)

    def commit(self) -> None:
        """Make what was put the states of its slots: the pass was whole."""
        for layer, slots, state in self._put:
            kept, rows = self._layers[layer], _rows(slots)
            kept.tail[rows] = state.tail
            kept.matrix[rows] = state.matrix
        for slot, length in self._put_lengths.items():
            self.lengths[slot] = length
        self.discard()

    def discard(self) -> None:
        """Forget what was put since the last commit: its pass broke."""
        self._put, self._put_lengths = [], {}

    def copy(self, source: int, to: int) -> None:
        """Have a slot hold what another does."""
        for kept in self._layers.values():
            kept.tail[to] = kept.tail[source]
            kept.matrix[to] = kept.matrix[source]
        self.lengths[to] = self.lengths[source]

    def keep(self, slots: Sequence[int]) -> None:
        """Have the first slots hold what these do, in this order."""
        for kept in self._layers.values():
            kept.tail[: len(slots)] = kept.tail[list(slots)]
            kept.matrix[: len(slots)] = kept.matrix[list(slots)]
        self.lengths[: len(slots)] = [self.lengths[slot] for slot in slots]


def _rows(places: Sequence[int]) -> slice | list[int]:
    """Return what indexes these rows: a slice, which copies nothing, where they follow each other."""
    first, stop = places[0], places[0] + len(places)
    return slice(first, stop) if list(places) == list(range(first, stop)) else list(places)
