"""Bound a mask block by block. Knows nothing of single cells, of which masks there are, or of scores.

A block map covers the rectangle of queries x keys with blocks and says of each whether it is empty, full
or neither. It is found from the bounds (least, greatest) of the plan's arrays over each row of blocks
and each column of blocks, so a 128k x 128k mask costs a map of 1024 x 1024 and never 16 G cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import torch
from jaxtyping import Bool, Int, Int8
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.core.errors import AttentionError


class Cover(IntEnum):
    """How much of a block is allowed: no cell, it is not known, every cell.

    The order is that of three-valued logic: `&` is min, `|` is max, `~` is `FULL - cover`.
    """

    EMPTY = 0
    PARTIAL = 1
    FULL = 2


# The `Cover` of each block; the last row and column may be ragged. `PARTIAL` promises nothing: a composed
# mask may call a block partial that is in truth empty or full. `EMPTY` and `FULL` are always true.
BlockMap = Int8[Tensor, "q_blocks kv_blocks"]


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value in each block, as a column (queries) or a row (keys)."""

    low: Int[Tensor, "#q_blocks #kv_blocks"]
    high: Int[Tensor, "#q_blocks #kv_blocks"]


@dataclass(frozen=True, eq=False)
class Tiling:
    """A grid cut into blocks: where masks read the bounds of what they compare."""

    grid: Grid
    q_block: int
    kv_block: int

    def __post_init__(self) -> None:
        """Refuse blocks without cells."""
        if self.q_block < 1 or self.kv_block < 1:
            raise AttentionError(
                f"a block map got blocks of {self.q_block} x {self.kv_block} cells; both sides must be at "
                "least 1. Ask for larger blocks."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)` of the block map."""
        num_q, num_keys = self.grid.shape
        return -(-num_q // self.q_block), -(-num_keys // self.kv_block)

    @cached_property
    def q_positions(self) -> Bounds:
        """Bounds of the positions of the queries."""
        return self.of_rows(self.grid.q_positions)

    @cached_property
    def k_positions(self) -> Bounds:
        """Bounds of the positions of the keys."""
        return self.of_columns(self.grid.k_positions)

    def of_rows(self, values: Int[Tensor, " q"]) -> Bounds:
        """Return the bounds of a value that each query has."""
        blocks = in_blocks(values, self.q_block)
        return Bounds(blocks.amin(1)[:, None], blocks.amax(1)[:, None])

    def of_columns(self, values: Int[Tensor, " k"]) -> Bounds:
        """Return the bounds of a value that each key has."""
        blocks = in_blocks(values, self.kv_block)
        return Bounds(blocks.amin(1)[None, :], blocks.amax(1)[None, :])

    def covers(
        self, is_any: Bool[Tensor, "#q_blocks #kv_blocks"], is_all: Bool[Tensor, "#q_blocks #kv_blocks"]
    ) -> BlockMap:
        """Return the covers of blocks in which some cell may be, and every cell is, allowed."""
        covers = is_any.to(torch.int8) + (is_any & is_all).to(torch.int8)
        return covers.expand(self.shape).contiguous()


def in_blocks(values: Int[Tensor, " n"], block: int) -> Int[Tensor, "blocks block"]:
    """Fold `values` into rows of `block`; a ragged last row repeats its last value."""
    num_blocks = -(-values.numel() // block)
    ragged = num_blocks * block - values.numel()
    values = values.long()
    return torch.cat([values, values[-1:].expand(ragged)]).view(num_blocks, block)
