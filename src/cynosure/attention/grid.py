"""Lay out the query rows and key columns of one sequence. Knows nothing of masks or values."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """The rectangle of queries x keys that a mask, a bias or a score looks at.

    A grid may be a tile of a larger one (`tile`); `q_first` and `k_first` then tell at which query and at
    which key of the sequence it begins. `tree_parents` always covers the whole sequence.
    """

    q_positions: Int[Tensor, " q"]
    k_positions: Int[Tensor, " k"]
    num_keys: int
    k_first: int = 0
    q_first: int = 0
    q_nodes: Int[Tensor, " q"] | None = None
    q_documents: Int[Tensor, " q"] | None = None
    k_documents: Int[Tensor, " k"] | None = None
    q_spans: Int[Tensor, " q"] | None = None
    k_spans: Int[Tensor, " k"] | None = None
    tree_parents: Int[Tensor, " n"] | None = None
    k_is_pad: Bool[Tensor, " k"] | None = None
    k_bias: Float[Tensor, " k"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return self.q_positions.numel(), self.k_positions.numel()

    def tile(self, rows: slice, columns: slice) -> Grid:
        """Return the sub-rectangle `rows` x `columns` (slices with explicit start and stop)."""
        return Grid(
            q_positions=self.q_positions[rows],
            k_positions=self.k_positions[columns],
            num_keys=self.num_keys,
            k_first=self.k_first + columns.start,
            q_first=self.q_first + rows.start,
            q_nodes=_part(self.q_nodes, rows),
            q_documents=_part(self.q_documents, rows),
            k_documents=_part(self.k_documents, columns),
            q_spans=_part(self.q_spans, rows),
            k_spans=_part(self.k_spans, columns),
            tree_parents=self.tree_parents,
            k_is_pad=_part(self.k_is_pad, columns),
            k_bias=_part(self.k_bias, columns),
        )


def _part(array: Tensor | None, part: slice) -> Tensor | None:
    return None if array is None else array[part]
