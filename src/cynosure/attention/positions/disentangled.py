"""Score tokens against distances, apart from each other. Knows nothing of where the vectors come from.

DeBERTa, arXiv:2006.03654, section 3.1; the logarithmic buckets are those of its second version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.position import Position
from cynosure.core.errors import AttentionError

MAX_DISTANCE_LIMIT = 1 << 20


@dataclass(frozen=True, eq=False)
class DistanceVectors:
    """What stands for each distance: keys for queries, and queries for keys, a row a distance for every head.

    They may be a part of the `2 * span` rows, from `first_row` on, that holds all which the call reads.
    """

    keys: Float[Tensor, "h rows d"] | None = None
    queries: Float[Tensor, "h rows d"] | None = None
    first_row: int = 0


@final
@dataclass(frozen=True)
class Disentangled(Position):
    """Add `q_i . K[d]` and `Q[d] . k_j` to `q_i . k_j`, where `d` is the distance from key to query.

    Distances beyond `span` share a row. With `max_distance`, those up to `span // 2` have a row each, and
    farther ones share rows that widen logarithmically up to it. The sum is what the scale multiplies.
    """

    span: int
    max_distance: int | None = None
    has_content_to_position: bool = True
    has_position_to_content: bool = True

    def __post_init__(self) -> None:
        """Check that there are rows to share, and something to add."""
        if not 1 <= self.span <= MAX_DISTANCE_LIMIT:
            raise AttentionError(
                f"Disentangled needs a span from 1 to {MAX_DISTANCE_LIMIT}, got {self.span}; change it"
            )
        if not self.has_content_to_position and not self.has_position_to_content:
            raise AttentionError("Disentangled adds neither of its two terms; switch one on")
        longest = self.max_distance
        if longest is not None and (self.span % 2 or not self.span // 2 < longest - 1 < MAX_DISTANCE_LIMIT):
            raise AttentionError(
                f"Disentangled needs an even span and a max_distance over {self.span // 2 + 1} and at most "
                f"{MAX_DISTANCE_LIMIT}, got span {self.span} and max_distance {longest}; change them"
            )

    @property
    def adds_bias(self) -> bool:
        """Scores take one, which depends on what they compare: `scores` gives it."""
        return True

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> None:
        """Nothing is added that depends on distance alone."""

    def rows(self, grid: Grid) -> Int[Tensor, "q k"]:
        """Return the row that each cell of `grid` reads."""
        distance = grid.q_positions[:, None] - grid.k_positions
        if self.max_distance is not None:
            by_distance = self._rows_by_distance().to(distance.device)
            distance = distance.sign() * by_distance[distance.abs().clamp(max=by_distance.numel() - 1)]
        return (distance + self.span).clamp(0, 2 * self.span - 1)

    def rows_within(self, length: int) -> slice:
        """Return the rows that tokens nearer to each other than `length` positions read."""
        ends = torch.tensor([0, max(length, 1) - 1])
        rows = self.rows(Grid(ends, ends, num_keys=2))
        return slice(int(rows.min()), int(rows.max()) + 1)

    def scores(
        self,
        q: Float[Tensor, "h q d"],
        k: Float[Tensor, "h_kv k d"],
        grid: Grid,
        vectors: DistanceVectors | None,
    ) -> Float[Tensor, "h q k"]:
        """Return both terms of every cell of `grid`, before the scale.

        Raises:
            AttentionError: vectors are missing, too few, or of another number of heads.
        """
        first = 0 if vectors is None else vectors.first_row
        rows = self.rows(grid) - first
        found = q.new_zeros(q.shape[0], *rows.shape)
        if self.has_content_to_position:
            keys = self._checked(None if vectors is None else vectors.keys, "keys", q, rows)
            found += (q @ keys.transpose(1, 2)).gather(2, rows.expand_as(found))
        if self.has_position_to_content:
            queries = self._checked(None if vectors is None else vectors.queries, "queries", q, rows)
            each = k.repeat_interleave(q.shape[0] // k.shape[0], dim=0)
            met = queries @ each.transpose(1, 2)
            found += met.gather(1, rows.expand_as(found))
        return found

    def _checked(
        self, vectors: Tensor | None, name: str, q: Float[Tensor, "h q d"], rows: Int[Tensor, "q k"]
    ) -> Tensor:
        num_heads, _, width = q.shape
        lowest, highest = (int(rows.min()), int(rows.max())) if rows.numel() else (0, -1)
        fits = vectors is not None and (vectors.shape[0], vectors.shape[2]) == (num_heads, width)
        if vectors is None or not fits or lowest < 0 or highest >= vectors.shape[1]:
            got = "none" if vectors is None else f"those of {list(vectors.shape)}"
            raise AttentionError(
                f"Disentangled reads rows {lowest} to {highest} of {name} of {num_heads} heads, {width} "
                f"wide; got {got}. Pass the layer's"
            )
        return vectors.to(q.dtype)

    def _rows_by_distance(self) -> Int[Tensor, " distances"]:
        """Return how far from the middle row each distance reads, up to where all read the last.

        The arithmetic is float32 on the CPU whatever the device, step by step as published: at the edges one
        ulp decides, and checkpoints were trained with this one.
        """
        assert self.max_distance is not None
        middle = self.span // 2
        distances = torch.arange(self.max_distance + 1, device="cpu")
        widest = torch.log(torch.tensor((self.max_distance - 1) / middle))
        ratios = torch.log(distances.clamp(min=middle) / middle) / widest
        shared = torch.ceil(ratios * (middle - 1)).long() + middle
        return torch.where(distances <= middle, distances, shared)
