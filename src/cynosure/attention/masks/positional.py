"""Mask by where tokens sit in the sequence. Knows nothing of labels, trees or chance.

`q` and `k` below are the positions of the query and of the key; they need not be consecutive. Bounds are
compared, never subtracted, so that no block map holds more than booleans.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.algebra import Mask, check_count
from cynosure.attention.masks.block_map import BlockMap, Bounds, Cover, Tiling


@dataclass(frozen=True, repr=False)
class Full(Mask):
    """Every query attends to every key."""

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return all cells."""
        return torch.ones(grid.shape, dtype=torch.bool, device=grid.q_positions.device)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return full blocks."""
        return torch.full(
            tiling.shape, int(Cover.FULL), dtype=torch.int8, device=tiling.grid.q_positions.device
        )

    def __repr__(self) -> str:
        return "Full()"


@dataclass(frozen=True, repr=False)
class Causal(Mask):
    """A query attends to itself and what came before: `k <= q`."""

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return `k <= q`."""
        q, k = axes(grid)
        return k <= q

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return exact covers."""
        q, k = tiling.q_positions, tiling.k_positions
        return tiling.covers(k.low <= q.high, k.high <= q.low)

    def __repr__(self) -> str:
        return "Causal()"


@dataclass(frozen=True, repr=False)
class Window(Mask):
    """A query attends to what is nearer than `size` on either side: `|q - k| < size`.

    `Causal() & Window(size)` is the sliding window of Longformer (arXiv:2004.05150) and Mistral: `size`
    keys, the query's own included.
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_count("Window", "size", self.size)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return `|q - k| < size`."""
        q, k = axes(grid)
        return (k < q + self.size) & (q - self.size < k)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where the positions of a block are consecutive."""
        return _near(tiling, tiling.q_positions, tiling.k_positions, self.size)

    def __repr__(self) -> str:
        return f"Window({self.size})"


@dataclass(frozen=True, repr=False)
class Chunk(Mask):
    """A query attends within its own chunk of `size` positions: `q // size == k // size`."""

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_count("Chunk", "size", self.size)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the chunks are the same."""
        q, k = axes(grid)
        return q // self.size == k // self.size

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where the positions of a block are consecutive."""
        return _near(tiling, *_chunks(tiling, self.size), 1)

    def __repr__(self) -> str:
        return f"Chunk({self.size})"


@dataclass(frozen=True, repr=False)
class Global(Mask):
    """The first `size` positions attend to all and are attended to by all: `k < size or q < size`.

    Longformer (arXiv:2004.05150) and BigBird (arXiv:2007.14062); with `Causal` it keeps the attention
    sinks of StreamingLLM (arXiv:2309.17453).
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_count("Global", "size", self.size)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return `k < size or q < size`."""
        q, k = axes(grid)
        return (k < self.size) | (q < self.size)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return exact covers."""
        q, k = tiling.q_positions, tiling.k_positions
        return tiling.covers(
            (k.low < self.size) | (q.low < self.size), (k.high < self.size) | (q.high < self.size)
        )

    def __repr__(self) -> str:
        return f"Global({self.size})"


@dataclass(frozen=True, repr=False)
class Dilated(Mask):
    """A window with gaps: `|q - k| < size * step` and `(q - k) % step == 0` (arXiv:2004.05150, 3.1)."""

    size: int
    step: int

    def __post_init__(self) -> None:
        """Check the size, the step and the reach."""
        check_count("Dilated", "size", self.size)
        check_count("Dilated", "step", self.step)
        check_count("Dilated", "size * step", self.size * self.step)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return the window at every `step`-th distance."""
        q, k = axes(grid)
        reach = self.size * self.step
        return (k < q + reach) & (q - reach < k) & (q % self.step == k % self.step)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where the positions of a block are consecutive."""
        q, k = tiling.q_positions, tiling.k_positions
        reach = self.size * self.step - 1
        # Some distance q - k in [low, high], within reach, must be a multiple of step.
        low, high = (q.low - k.high).clamp(min=-reach), (q.high - k.low).clamp(max=reach)
        is_any = low <= high // self.step * self.step
        q_rest = tiling.of_rows(tiling.grid.q_positions % self.step)
        k_rest = tiling.of_columns(tiling.grid.k_positions % self.step)
        is_any &= (q_rest.low <= k_rest.high) & (k_rest.low <= q_rest.high)
        is_aligned = (q_rest.low == q_rest.high) & (k_rest.low == k_rest.high) & (q_rest.low == k_rest.low)
        return tiling.covers(is_any, is_aligned & (q.high <= k.low + reach) & (k.high <= q.low + reach))

    def __repr__(self) -> str:
        return f"Dilated({self.size}, {self.step})"


@dataclass(frozen=True, repr=False)
class Blocks(Mask):
    """A query attends to its block of `size` positions and to `num_neighbours` blocks on either side.

    The block window of BigBird (arXiv:2007.14062): `|q // size - k // size| <= num_neighbours`.
    """

    size: int
    num_neighbours: int = 1

    def __post_init__(self) -> None:
        """Check the size and the neighbours."""
        check_count("Blocks", "size", self.size)
        check_count("Blocks", "num_neighbours", self.num_neighbours, low=0)

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the blocks are neighbours."""
        q, k = axes(grid)
        q, k = q // self.size, k // self.size
        return (k <= q + self.num_neighbours) & (q - self.num_neighbours <= k)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where the positions of a block are consecutive."""
        return _near(tiling, *_chunks(tiling, self.size), self.num_neighbours + 1)

    def __repr__(self) -> str:
        return f"Blocks({self.size}, {self.num_neighbours})"


def axes(grid: Grid) -> tuple[Int[Tensor, "q 1"], Int[Tensor, "1 k"]]:
    """Return the positions of the queries as a column and of the keys as a row."""
    return grid.q_positions.long()[:, None], grid.k_positions.long()[None, :]


def _chunks(tiling: Tiling, size: int) -> tuple[Bounds, Bounds]:
    q, k = tiling.q_positions, tiling.k_positions
    return Bounds(q.low // size, q.high // size), Bounds(k.low // size, k.high // size)


def _near(tiling: Tiling, q: Bounds, k: Bounds, size: int) -> BlockMap:
    """Return the covers of `|q - k| < size`."""
    is_any = (k.low < q.high + size) & (q.low - size < k.high)
    return tiling.covers(is_any, (k.high < q.low + size) & (q.high - size < k.low))
