"""Keep the cosines and sines of all positions, and pick those of a pass. Knows nothing of queries or keys."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.positions import MRope, Rope

FIRST_POSITIONS = 4096


@final
class RotaryRows:
    """A table that grows with the farthest position; a position's row never changes."""

    def __init__(self, position: Rope | MRope, dtype: torch.dtype, capacity: int) -> None:
        """Reserve `cos` and `sin` for passes of at most `capacity` tokens."""
        self._position, self._dtype = position, dtype
        self._extend(FIRST_POSITIONS)
        self.cos = torch.empty(capacity, self._cos.shape[1], dtype=dtype)
        self.sin = torch.empty_like(self.cos)

    def select(self, positions: Int[Tensor, "*axes n"]) -> None:
        """Write the rows of `positions` to the first of `cos` and `sin`."""
        num_tokens = positions.shape[-1]
        if isinstance(self._position, MRope) and positions.dim() > 1:
            # Each axis turns some of the pairs: no one row of the table is the token's.
            table = self._position.tables(positions, self.cos.dtype)
            self.cos[:num_tokens], self.sin[:num_tokens] = table.cos, table.sin
            return
        self.reach(int(positions.max()))
        torch.index_select(self._cos, 0, positions, out=self.cos[:num_tokens])
        torch.index_select(self._sin, 0, positions, out=self.sin[:num_tokens])

    @property
    def num_positions(self) -> int:
        """How many positions the table holds now."""
        return self._cos.shape[0]

    @property
    def whole(self) -> tuple[Float[Tensor, "num_positions half"], Float[Tensor, "num_positions half"]]:
        """Cosines and sines of all positions; `reach` may put others in their place."""
        return self._cos, self._sin

    def reach(self, position: int) -> None:
        """Have rows up to `position`."""
        if position >= self.num_positions:
            self._extend(1 << position.bit_length())

    def _extend(self, num_positions: int) -> None:
        table = self._position.tables(torch.arange(num_positions), self._dtype)
        self._cos, self._sin = table.cos.contiguous(), table.sin.contiguous()
