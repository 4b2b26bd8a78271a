"""Let the first tokens of a sequence attend to all of it, by projections of their own. Knows no layers.

Longformer, arXiv 2004.05150, section 3.1. How others attend to those tokens is the layer's mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, QueryPlan, attend
from cynosure.attention.masks import Full
from cynosure.attention.plan import cumulative
from cynosure.core.errors import InputError
from cynosure.models.forward_pass import ForwardPass


@dataclass(frozen=True, eq=False)
class _Placed:
    """Which rows are those of global tokens, and a plan of them as queries."""

    rows: Int[Tensor, " m"]
    plan: AttentionPlan


class GlobalRows(nn.Module):
    """Queries, keys and values for the tokens that attend to all."""

    def __init__(self, attention: AttentionSpec, hidden_size: int, num_global: int, has_bias: bool) -> None:
        """Hold one projection for all three."""
        super().__init__()
        self.spec = AttentionSpec(attention.heads, Full(), score=attention.score)
        self.num_global = num_global
        width = attention.heads.num_heads * attention.heads.head_dim
        self.qkv = nn.Linear(hidden_size, 3 * width, has_bias)

    def forward(
        self, x: Float[Tensor, "n hidden"], out: Float[Tensor, "n h d"], forward_pass: ForwardPass
    ) -> Float[Tensor, "n h d"]:
        """Return `out` with the rows of global tokens in the place of what the layer's mask gave them.

        Raises:
            InputError: the pass is watched; what is observed would be of the wrong attention.
        """
        if forward_pass.is_watched:
            raise InputError(
                "some tokens of this encoder attend by projections of their own, which can't be watched. Ask "
                "without."
            )
        placed = self._placed(forward_pass.batch.plan)
        heads = self.spec.heads
        q, k, v = self.qkv(x).view(x.shape[0], 3, heads.num_heads, heads.head_dim).unbind(1)
        state = attend(
            self.spec, q[placed.rows], [DenseSource(k, v)], placed.plan, backend=forward_pass.backend
        )
        return out.index_copy(0, placed.rows, state.out.to(out.dtype))

    def _placed(self, plan: AttentionPlan) -> _Placed:
        """Find the rows; once a pass, for all layers."""
        place = ("global rows", self.num_global)
        if place not in plan.memo:
            positions, is_pad = plan.queries.positions, plan.keys[0].is_pad
            is_global = positions < self.num_global
            is_global = is_global if is_pad is None else is_global & ~is_pad
            counts = [int(is_global[start:stop].sum()) for start, stop in pairwise(plan.queries.offsets)]
            rows = is_global.nonzero().squeeze(1)
            queries = QueryPlan(cumulative(counts), positions[rows])
            plan.memo[place] = _Placed(rows, AttentionPlan(queries, plan.keys, plan.num_segments))
        return plan.memo[place]
