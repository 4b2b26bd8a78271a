"""Mask by how long the sequence is. Knows nothing of labels, trees or chance.

A sequence's length is that of all its keys, `grid.num_keys`; their positions are taken to run from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.algebra import And, Mask, Not, Or, check_count
from cynosure.attention.masks.block_map import BlockMap, Cover, Tiling
from cynosure.attention.masks.positional import axes


@dataclass(frozen=True, repr=False)
class LastBlock(Mask):
    """The last block of `size` positions attends to all and is attended to by all (arXiv:2007.14062).

    Blocks are counted from 0, so the last one may hold fewer. A sequence that grows has another last block.
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_count("LastBlock", "size", self.size)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the query or the key is in the last block."""
        q, k = axes(grid)
        first = self._first(grid)
        return (q >= first) | (k >= first)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return exact covers."""
        q, k, first = tiling.q_positions, tiling.k_positions, self._first(tiling.grid)
        return tiling.covers((q.high >= first) | (k.high >= first), (q.low >= first) | (k.low >= first))

    def _first(self, grid: Grid) -> int:
        """Position at which the last block begins."""
        return (grid.num_keys - 1) // self.size * self.size

    def __repr__(self) -> str:
        return f"LastBlock({self.size})"


@dataclass(frozen=True, repr=False)
class UpTo(Mask):
    """Every query attends to every key in sequences of at most `length` keys, and to none in longer ones."""

    length: int

    def __post_init__(self) -> None:
        """Check the length."""
        check_count("UpTo", "length", self.length)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return all cells, or none."""
        return torch.full(grid.shape, grid.num_keys <= self.length, device=grid.q_positions.device)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return full blocks, or empty ones."""
        cover = Cover.FULL if tiling.grid.num_keys <= self.length else Cover.EMPTY
        return torch.full(tiling.shape, int(cover), dtype=torch.int8, device=tiling.grid.q_positions.device)

    def __repr__(self) -> str:
        return f"UpTo({self.length})"


def counts_keys(mask: Mask) -> bool:
    """Whether what a mask allows depends on how many keys there are, padding among them."""
    if isinstance(mask, And | Or):
        return any(map(counts_keys, mask.masks))
    if isinstance(mask, Not):
        return counts_keys(mask.mask)
    return isinstance(mask, LastBlock | UpTo)
