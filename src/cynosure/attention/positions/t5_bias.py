"""Add a learned bias by bucketed distance. Knows nothing of where the table comes from.

T5, arXiv:1910.10683, section 2.1; the buckets are those of Mesh TensorFlow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.position import Position
from cynosure.core.errors import AttentionError

MAX_DISTANCE_LIMIT = 1 << 20


@final
@dataclass(frozen=True)
class T5Bias(Position):
    """A table of `[num_buckets, num_heads]`, read by the distance from query to key.

    Near distances have a bucket each, farther ones share buckets that widen logarithmically up to
    `max_distance`. Bidirectional attention splits the buckets between keys before and after the query;
    otherwise every later key falls into bucket 0 (and is usually masked).
    """

    num_buckets: int = 32
    max_distance: int = 128
    is_bidirectional: bool = True

    def __post_init__(self) -> None:
        """Check that some buckets are exact and some are logarithmic."""
        lowest = 4 if self.is_bidirectional else 2
        if self.num_buckets < lowest:
            raise AttentionError(
                f"T5Bias needs at least {lowest} buckets here, got {self.num_buckets}; raise num_buckets"
            )
        if not self._num_exact < self.max_distance <= MAX_DISTANCE_LIMIT:
            raise AttentionError(
                f"T5Bias needs max_distance over {self._num_exact} and at most {MAX_DISTANCE_LIMIT}, got "
                f"{self.max_distance}; change it"
            )

    @property
    def adds_bias(self) -> bool:
        """Scores take a learned one."""
        return True

    @property
    def _num_one_sided(self) -> int:
        """Buckets for one direction."""
        return self.num_buckets // 2 if self.is_bidirectional else self.num_buckets

    @property
    def _num_exact(self) -> int:
        """Distances that have a bucket of their own."""
        return self._num_one_sided // 2

    def buckets(self, grid: Grid) -> Int[Tensor, "q k"]:
        """Return the bucket of every cell of `grid`."""
        relative = grid.k_positions - grid.q_positions[:, None]
        by_distance = self._buckets_by_distance().to(relative.device)
        last = by_distance.numel() - 1
        if not self.is_bidirectional:
            return by_distance[(-relative).clamp(0, last)]
        return by_distance[relative.abs().clamp(max=last)] + (relative > 0) * self._num_one_sided

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> Float[Tensor, "h q k"]:
        """Return the learned bias of every cell of `grid`, for every head.

        Raises:
            AttentionError: the table is missing or has another number of buckets.
        """
        if table is None or table.shape[0] != self.num_buckets:
            got = "none" if table is None else f"one of {list(table.shape)}"
            raise AttentionError(
                f"T5Bias reads a table of [{self.num_buckets}, num_heads], got {got}; pass the layer's"
            )
        return table[self.buckets(grid)].permute(2, 0, 1)

    def _buckets_by_distance(self) -> Int[Tensor, " distances"]:
        """Return the bucket of each distance, up to where all are in the last one.

        The arithmetic is float32 on the CPU whatever the device: at the edges of buckets one ulp decides,
        and checkpoints were trained with this one.
        """
        distances = torch.arange(2 * self.max_distance, device="cpu")
        num_exact, num_shared = self._num_exact, self._num_one_sided - self._num_exact
        ratios = torch.log(distances.clamp(min=num_exact).float() / num_exact)
        shared = num_exact + (ratios / math.log(self.max_distance / num_exact) * num_shared).long()
        return torch.where(distances < num_exact, distances, shared.clamp(max=self._num_one_sided - 1))
