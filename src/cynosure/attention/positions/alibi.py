"""Penalise scores by distance, a slope for each head. Knows nothing of what is learned.

ALiBi, arXiv:2108.12409, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.position import Position
from cynosure.core.errors import AttentionError


@final
@dataclass(frozen=True)
class Alibi(Position):
    """`-slope * |q - k|`, which serves causal and bidirectional attention.

    Bloom adds `slope * k`, which under a causal mask differs by a constant of each row, so that the
    softmax is the same; the distance form also keeps its precision at large positions.
    """

    num_heads: int

    def __post_init__(self) -> None:
        """Check the number of heads."""
        if self.num_heads < 1:
            raise AttentionError(f"Alibi needs at least 1 head, got num_heads {self.num_heads}; raise it")

    @property
    def adds_bias(self) -> bool:
        """Scores fall with distance."""
        return True

    def slopes(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " h"]:
        """Return the slope of each head: `2 ** (-8 (i + 1) / num_heads)` for a power of two.

        Any other number takes the slopes of the power of two below, then every other slope of the power
        of two above (the authors' code).
        """
        below = 2 ** math.floor(math.log2(self.num_heads))
        powers = [8 * (i + 1) / below for i in range(below)]
        powers += [4 * (2 * i + 1) / below for i in range(self.num_heads - below)]
        return torch.tensor([2.0**-power for power in powers], dtype=dtype, device="cpu")

    def bias(
        self,
        grid: Grid,
        table: Float[Tensor, "num_buckets h"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "h q k"]:
        """Return the penalty of every cell of `grid`, for every head."""
        distances = (grid.q_positions[:, None] - grid.k_positions).abs().to(dtype)
        return self.slopes(dtype).to(distances.device)[:, None, None] * -distances
