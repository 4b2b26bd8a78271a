"""Say what every kind of position answers to. Knows nothing of any particular kind.

A kind acts in one of two places: it rotates queries and keys before their product (`Rotary`), or it adds
a bias to the scores. Kinds are frozen and hashable parts of a spec; learned tensors are arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from cynosure.attention.grid import Grid


class Position(ABC):
    """How tokens tell where they are."""

    @property
    @abstractmethod
    def adds_bias(self) -> bool:
        """Whether scores take a bias."""

    @abstractmethod
    def bias(
        self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None
    ) -> Float[Tensor, "h q k"] | None:
        """Return what is added to the scaled scores of `grid`, or `None` where nothing is."""


@final
@dataclass(frozen=True)
class NoPosition(Position):
    """Tokens do not tell where they are, or their embeddings already do."""

    @property
    def adds_bias(self) -> bool:
        """Scores take none."""
        return False

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> None:
        """Nothing is added."""


def score_bias(
    position: Position, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None
) -> Float[Tensor, "h q k"] | None:
    """Return what `position` adds to the scaled scores of `grid`, or `None` where it adds nothing.

    This is the one call a backend makes. `table` is the layer's, where it has one; only kinds that learn
    their bias read it.

    Raises:
        AttentionError: a table is needed and missing, or of another size.
    """
    return position.bias(grid, table)
