"""Lower masks to what the kernels read: bounds of a query's keys, or a map of blocks. Computes no attention.

A mask that allows each query an interval of positions costs two numbers a query. Any other becomes a map:
blocks of queries x keys that are empty, full, or spelt out cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks import And, Blocks, Causal, Chunk, Cover, Full, Mask, Pad, Window
from cynosure.kernels.attention import EMPTY, FIRST_PARTIAL, FULL, TILE_KEYS

MAP_ROWS = 64
MAX_CELLS = 1 << 27


@dataclass(frozen=True, eq=False)
class Interval:
    """The lowest and the highest position that each query sees, both included; `None` is unbounded."""

    low: Int[Tensor, " n"] | None = None
    high: Int[Tensor, " n"] | None = None

    def __and__(self, other: Interval) -> Interval:
        return Interval(
            _joined(torch.maximum, self.low, other.low), _joined(torch.minimum, self.high, other.high)
        )


@dataclass(frozen=True, eq=False)
class CellMap:
    """Covers of all sequences' blocks, where each sequence's begin, and the cells of partial ones."""

    blocks: Int[Tensor, " num_blocks"]
    offsets: Int[Tensor, " num_seqs"]
    cells: UInt8[Tensor, "num_partial rows keys"]
    rows: int


def interval_of(mask: Mask, positions: Int[Tensor, " n"], *, is_pad_told: bool) -> Interval | None:
    """Return the keys that `mask` allows each query at `positions`, or `None` where that is no interval.

    `is_pad_told` says that padding is known to the kernels by the bias of its keys.
    """
    if isinstance(mask, Full) or (isinstance(mask, Pad) and is_pad_told):
        return Interval()
    if isinstance(mask, Causal):
        return Interval(high=positions)
    if isinstance(mask, Window):
        return Interval(positions - (mask.size - 1), positions + (mask.size - 1))
    if isinstance(mask, Chunk):
        first = positions // mask.size * mask.size
        return Interval(first, first + (mask.size - 1))
    if isinstance(mask, Blocks):
        block = positions // mask.size
        first = (block - mask.num_neighbours) * mask.size
        return Interval(first, (block + mask.num_neighbours + 1) * mask.size - 1)
    if isinstance(mask, And):
        whole = Interval()
        for part in mask.masks:
            interval = interval_of(part, positions, is_pad_told=is_pad_told)
            if interval is None:
                return None
            whole = whole & interval
        return whole
    return None


def map_of(mask: Mask, grids: tuple[Grid, ...]) -> CellMap | int:
    """Return the map of `mask` over all sequences, or the number of its cells if those are too many."""
    rows = max([1, *(min(MAP_ROWS, grid.shape[0]) for grid in grids)])
    covers = [mask.block_map(grid, rows, TILE_KEYS) if _has_cells(grid) else None for grid in grids]
    num_partial = sum(int((cover == Cover.PARTIAL).sum()) for cover in covers if cover is not None)
    num_cells = num_partial * rows * TILE_KEYS
    if num_cells > MAX_CELLS:
        return num_cells
    cells = torch.zeros(max(1, num_partial), rows, TILE_KEYS, dtype=torch.uint8)
    blocks, offsets, first, used = [], [], 0, 0
    for grid, cover in zip(grids, covers, strict=True):
        offsets.append(first)
        if cover is None:
            continue
        numbers = torch.where(cover == Cover.FULL, FULL, EMPTY).to(torch.int32)
        is_partial = cover == Cover.PARTIAL
        count = int(is_partial.sum())
        numbers[is_partial] = torch.arange(used, used + count, dtype=torch.int32) + FIRST_PARTIAL
        for row in range(cover.shape[0]):
            used = _spell_out(mask, grid, row, is_partial[row], cells, used)
        blocks.append(numbers.flatten())
        first += numbers.numel()
    return CellMap(
        torch.cat(blocks) if blocks else torch.zeros(1, dtype=torch.int32), torch.tensor(offsets), cells, rows
    )


def _spell_out(
    mask: Mask, grid: Grid, row: int, is_partial: Bool[Tensor, " columns"], cells: Tensor, used: int
) -> int:
    """Write the cells of a row of blocks behind the `used` ones; return how many are used then."""
    height = cells.shape[1]
    num_rows, num_keys = grid.shape
    rows = slice(row * height, min(num_rows, (row + 1) * height))
    for column in is_partial.nonzero()[:, 0].tolist():
        keys = slice(column * TILE_KEYS, min(num_keys, (column + 1) * TILE_KEYS))
        allowed = mask.allowed(grid.tile(rows, keys))
        cells[used, : allowed.shape[0], : allowed.shape[1]] = allowed
        used += 1
    return used


def _has_cells(grid: Grid) -> bool:
    return min(grid.shape) > 0


def _joined(join, a: Tensor | None, b: Tensor | None) -> Tensor | None:  # noqa: ANN001
    return b if a is None else a if b is None else join(a, b)
