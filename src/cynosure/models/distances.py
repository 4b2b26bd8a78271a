"""Give disentangled attention its vectors of distances. Knows nothing of how scores use them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionWeights, Heads
from cynosure.attention.positions import Disentangled, DistanceVectors
from cynosure.models.embedding import embedding
from cynosure.models.encoder_spec import DistanceSpec
from cynosure.models.norm import Norm


@dataclass(frozen=True, eq=False)
class SharedDistances:
    """Rows of the table, from `first_row` on."""

    rows: Float[Tensor, "rows hidden"]
    first_row: int


class DistanceTable(nn.Module):
    """A row a distance, for all layers (DeBERTa, arXiv 2006.03654)."""

    def __init__(self, spec: DistanceSpec, position: Disentangled, hidden_size: int) -> None:
        """Hold the table, and its norm where there is one."""
        super().__init__()
        self.position = position
        self.table = embedding(2 * position.span, hidden_size)
        self.norm = nn.Identity() if spec.norm is None else Norm(spec.norm, hidden_size)

    def forward(self, length: int) -> SharedDistances:
        """Return the rows that sequences of at most `length` tokens read."""
        rows = self.position.rows_within(length)
        return SharedDistances(self.norm(self.table.weight[rows]), rows.start)


class DistanceProjections(nn.Module):
    """Turn the rows into what the queries of one layer meet, and into what its keys meet.

    Where rows are projected as tokens are, `qkv` is the layer's own projection of those.
    """

    def __init__(self, spec: DistanceSpec, position: Disentangled, heads: Heads, hidden_size: int) -> None:
        """Hold the projections that are not those of tokens."""
        super().__init__()
        width = heads.num_heads * heads.head_dim
        has_keys = position.has_content_to_position and not spec.is_shared
        has_queries = position.has_position_to_content and not spec.is_shared
        self.heads = heads
        self.key = nn.Linear(hidden_size, width) if has_keys else None
        self.query = nn.Linear(hidden_size, width) if has_queries else None
        self.is_shared = spec.is_shared

    def forward(self, shared: SharedDistances, qkv: nn.Module) -> AttentionWeights:
        """Return what `attend` reads."""
        rows = shared.rows
        if self.is_shared:
            queries, keys, _ = qkv(rows).chunk(3, dim=-1)
        else:
            keys = None if self.key is None else self.key(rows)
            queries = None if self.query is None else self.query(rows)
        vectors = DistanceVectors(self._by_head(keys), self._by_head(queries), shared.first_row)
        return AttentionWeights(distance_vectors=vectors)

    def _by_head(self, x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        return x.unflatten(-1, (self.heads.num_heads, self.heads.head_dim)).transpose(0, 1)
