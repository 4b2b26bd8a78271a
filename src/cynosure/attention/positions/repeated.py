"""Count the keys at the start of a sequence several times. Knows nothing of what they hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.position import Position
from cynosure.core.errors import AttentionError


@final
@dataclass(frozen=True)
class RepeatedStart(Position):
    """Weigh the first block of keys as if it stood `count` times, for queries of neither end.

    BigBird (arXiv:2007.14062) draws random blocks in training. The graph that its checkpoints are served by
    (transformers, outside of training) draws none and puts the first block in the place of each, beside the
    one that is attended to anyway: every key of it counts `1 + num_random_blocks` times. Queries of the first
    and the last block, and sequences of at most `length` keys, attend to each key once.
    """

    size: int
    count: int
    length: int

    def __post_init__(self) -> None:
        """Check that there is something to count."""
        if min(self.size, self.count, self.length) < 1:
            raise AttentionError(f"RepeatedStart needs size, count and length of at least 1, got {self}")

    @property
    def adds_bias(self) -> bool:
        """Scores take the logarithm of the count."""
        return True

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> Float[Tensor, "1 q k"]:
        """Return `log(count)` where keys are counted again, and 0 elsewhere."""
        last = (grid.num_keys - 1) // self.size * self.size
        is_middle = (grid.q_positions >= self.size) & (grid.q_positions < last)
        is_again = is_middle[:, None] & (grid.k_positions < self.size) & (grid.num_keys > self.length)
        return (is_again.double() * math.log(self.count))[None]
