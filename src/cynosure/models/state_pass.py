"""Take packed tokens through states, each sequence through its own. Knows nothing of any mixer's maths.

Sequences of a pass have any number of tokens: one that decodes has one, a chunk of a prompt has many, and a
chunk may be cut where a copy of its state is kept. Pieces of one length go together: their tokens side by
side, a batch of rows for the mixer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.cache import LayerState, StatePath, StateShape, StateStore
from cynosure.models.batch import Batch

#: Takes `[batch, tokens, width]` and the states before them, and returns what the tokens read, and the states
#: after them; the last argument says whether they are the first tokens of their sequences.
Advance = Callable[[Tensor, LayerState, bool], tuple[Tensor, LayerState]]


@dataclass(frozen=True)
class _Piece:
    """Some tokens of one sequence that follow each other, and the slots that hold the state behind them."""

    sequence: int
    rows: tuple[int, ...]
    is_start: bool
    is_first: bool
    targets: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Group:
    """Pieces of different sequences that the mixer takes at once."""

    pieces: tuple[_Piece, ...]
    rows: Int[Tensor, "pieces tokens"]

    @property
    def is_start(self) -> bool:
        """Whether no token was before them."""
        return self.pieces[0].is_start


class StatePass:
    """One batch's way through the states of every layer.

    Args:
        batch: the new tokens; those that pad it are left out.
        store: where states are between passes; `None` where the batch is all there is.
        paths: which slots of it are each sequence's.
    """

    def __init__(self, batch: Batch, store: StateStore | None, paths: Sequence[StatePath] | None) -> None:
        """Lay out the pieces, once for all layers."""
        assert (store is None) == (paths is None), (
            "states that are kept need a batch that says in which slots"
        )
        self._store = store
        self._slots = None if paths is None else [path.slot for path in paths]
        past = _past_lens(batch)
        if store is not None and paths is not None:
            for path, length in zip(paths, past, strict=True):
                # What is not there can't be gone on from, and what was gone on from is not there any more.
                assert not length or store.lengths[path.slot] == length, (
                    f"slot {path.slot} has seen {store.lengths[path.slot]} tokens; {length} were before"
                )
            store.put_lengths(_lengths_after(batch, paths, past))
        self._groups = _groups(_pieces(batch, paths, past))

    def run(
        self, layer: int, shape: StateShape, inputs: Float[Tensor, "n width"], advance: Advance
    ) -> Float[Tensor, "n out"]:
        """Return what each token reads of a layer's states; zeros for tokens that pad."""
        carried: dict[int, LayerState] = {}
        out: Tensor | None = None
        for group in self._groups:
            before = self._before(layer, shape, group, carried, inputs.dtype)
            read, after = advance(inputs[group.rows], before, group.is_start)
            if out is None:
                out = read.new_zeros(inputs.shape[0], read.shape[-1])
            out[group.rows] = read
            for place, piece in enumerate(group.pieces):
                carried[piece.sequence] = after.of([place])
            self._keep(layer, group, after)
        assert out is not None, "a batch has at least one token"
        return out

    def _before(
        self,
        layer: int,
        shape: StateShape,
        group: _Group,
        carried: dict[int, LayerState],
        dtype: torch.dtype,
    ) -> LayerState:
        if group.is_start:
            return shape.empty(len(group.pieces), dtype)
        if not group.pieces[0].is_first:
            return LayerState.joined([carried[piece.sequence] for piece in group.pieces])
        assert self._store is not None
        assert self._slots is not None
        return self._store.read(layer, [self._slots[piece.sequence] for piece in group.pieces])

    def _keep(self, layer: int, group: _Group, after: LayerState) -> None:
        if self._store is None:
            return
        kept = [(place, slot) for place, piece in enumerate(group.pieces) for slot in piece.targets]
        if len(kept) == len(group.pieces):
            self._store.put(layer, [slot for _, slot in kept], after)
        elif kept:
            self._store.put(layer, [slot for _, slot in kept], after.of([place for place, _ in kept]))


def _past_lens(batch: Batch) -> list[int]:
    lens = [stop - start for start, stop in pairwise(batch.plan.keys[0].offsets)]
    return [keys - new for keys, new in zip(lens, batch.new_lens, strict=True)]


def _lengths_after(batch: Batch, paths: Sequence[StatePath], past: Sequence[int]) -> dict[int, int]:
    lengths = {}
    for path, before, new in zip(paths, past, batch.new_lens, strict=True):
        lengths.update({slot: before + count for count, slot in path.copies})
        lengths[path.slot] = before + new
    return lengths


def _pieces(batch: Batch, paths: Sequence[StatePath] | None, past: Sequence[int]) -> list[list[_Piece]]:
    """Cut each sequence's tokens where a copy of its state is kept; the pieces of one follow each other."""
    is_pad = batch.plan.keys[0].is_pad
    pads = None if is_pad is None else is_pad.tolist()
    found, start = [], 0
    for sequence, count in enumerate(batch.new_lens):
        rows = [row for row in range(start, start + count) if pads is None or not pads[row]]
        start += count
        copies = () if paths is None else paths[sequence].copies
        slots: dict[int, tuple[int, ...]] = {cut: (slot,) for cut, slot in copies}
        assert all(0 < cut <= len(rows) for cut in slots), "a copy is of a state that the pass does not reach"
        own = () if paths is None else (paths[sequence].slot,)
        slots[len(rows)] = (*slots.get(len(rows), ()), *own)
        cuts = [0, *slots]
        found.append(
            [
                _Piece(sequence, tuple(rows[a:b]), not past[sequence] and not a, not a, slots[b])
                for a, b in pairwise(cuts)
                if b > a
            ]
        )
    return found


def _groups(pieces: Sequence[Sequence[_Piece]]) -> tuple[_Group, ...]:
    """Put pieces together that the mixer takes alike: of one place in their sequences, and of one length."""
    alike: dict[tuple[int, int, bool], list[_Piece]] = {}
    for of_sequence in pieces:
        for place, piece in enumerate(of_sequence):
            alike.setdefault((place, len(piece.rows), piece.is_start), []).append(piece)
    return tuple(
        _Group(tuple(group), torch.tensor([piece.rows for piece in group], dtype=torch.int64))
        for _, group in sorted(alike.items(), key=lambda item: item[0])
    )
