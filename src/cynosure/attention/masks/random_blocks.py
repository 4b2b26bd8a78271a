"""Mask by seeded chance. Knows nothing of global state, tiles or machines.

A draw is a hash of (seed, query block, number of the draw), so any machine, any tile and any length of the
sequence so far gives the same blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.algebra import Mask, check_count
from cynosure.attention.masks.block_map import BlockMap, Tiling, in_blocks

# A block number that no key has: fills the draws of a query block that has too few blocks to draw from.
NO_BLOCK = torch.iinfo(torch.int64).max


@dataclass(frozen=True, repr=False)
class Random(Mask):
    """Each block of queries attends to `num_blocks` distinct random blocks of keys (arXiv:2007.14062).

    Blocks are `size` positions. With `is_causal` the blocks of query block `b` are drawn from `0..b`, so
    that a sequence that grows keeps its draws and decode equals prefill; what block `b` itself holds ahead
    of the query stays allowed until `Causal() &` forbids it. Without `is_causal` they are drawn from all
    blocks of `grid.num_keys`, and a sequence that grows draws anew. Where fewer exist, all are taken.
    """

    size: int
    num_blocks: int
    seed: int
    is_causal: bool = True

    def __post_init__(self) -> None:
        """Check the size, the count and the seed."""
        check_count("Random", "size", self.size)
        check_count("Random", "num_blocks", self.num_blocks)
        check_count("Random", "seed", self.seed, low=0)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return the drawn blocks of each query."""
        k_blocks = grid.k_positions.long() // self.size
        draws, owner = self.draws(grid)
        cells = torch.zeros(len(draws), len(k_blocks), dtype=torch.bool, device=k_blocks.device)
        for drawn in draws.unbind(1):
            cells |= drawn[:, None] == k_blocks[None, :]
        return cells[owner]

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where the positions of a block are consecutive."""
        draws, owner = self.draws(tiling.grid)
        owners, num_owners = _distinct(in_blocks(owner, tiling.q_block), nothing=len(draws))
        nobody = torch.full_like(draws[:1], NO_BLOCK)
        # The draws of a row of blocks, sorted, so that those within a column's bounds can be counted.
        drawn = torch.cat([draws, nobody])[owners].flatten(1).sort(1).values
        low = (tiling.k_positions.low // self.size).expand(tiling.shape).contiguous()
        high = (tiling.k_positions.high // self.size).expand(tiling.shape).contiguous()
        count = torch.searchsorted(drawn, high, right=True) - torch.searchsorted(drawn, low)
        # Draws are distinct, so only where each query block drew every key block do they add up to this.
        return tiling.covers(count > 0, count == (high - low + 1) * num_owners)

    def draws(self, grid: Grid) -> tuple[Int[Tensor, "b num_blocks"], Int[Tensor, " q"]]:
        """Return the key blocks that each query block drew, and the row of them that each query owns."""
        q_blocks, owner = torch.unique(grid.q_positions.long() // self.size, return_inverse=True)
        all_blocks = torch.full_like(q_blocks, -(-grid.num_keys // self.size))
        return self._sample(q_blocks, q_blocks + 1 if self.is_causal else all_blocks), owner

    def _sample(self, q_blocks: Int[Tensor, " b"], supply: Int[Tensor, " b"]) -> Int[Tensor, "b num_blocks"]:
        """Draw without replacement from `0..supply - 1` (Floyd's method; Bentley, CACM 30(9), 1987)."""
        wanted = supply.clamp(min=0, max=self.num_blocks)
        state = splitmix64(splitmix64(torch.full_like(q_blocks, self.seed)) ^ q_blocks)
        drawn = torch.full((len(q_blocks), self.num_blocks), NO_BLOCK, device=q_blocks.device)
        for number in range(self.num_blocks):
            last = supply - wanted + number
            pick = (splitmix64(state + number) & NO_BLOCK) % (last + 1).clamp(min=1)
            pick = torch.where((drawn == pick[:, None]).any(1), last, pick)
            drawn[:, number] = torch.where(number < wanted, pick, NO_BLOCK)
        return drawn

    def __repr__(self) -> str:
        causal = "" if self.is_causal else ", is_causal=False"
        return f"Random({self.size}, {self.num_blocks}, {self.seed}{causal})"


def splitmix64(state: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Hash 64-bit words (Steele, Lea, Flood, OOPSLA 2014), held as signed integers that wrap."""
    state = state - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15 modulo 2**64
    state = (state ^ _shift(state, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    state = (state ^ _shift(state, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return state ^ _shift(state, 31)


def _shift(state: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """Shift right, filling with zeros; `>>` on signed integers would repeat the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _distinct(
    values: Int[Tensor, "rows n"], nothing: int
) -> tuple[Int[Tensor, "rows most"], Int[Tensor, "rows 1"]]:
    """Return each row's distinct values, filled up with `nothing` (above all values), and their number."""
    values = values.sort(1).values
    is_new = torch.ones_like(values, dtype=torch.bool)
    is_new[:, 1:] = values[:, 1:] != values[:, :-1]
    counts = is_new.sum(1, keepdim=True)
    most = int(counts.max()) if counts.numel() else 0
    return values.masked_fill(~is_new, nothing).sort(1).values[:, :most], counts
