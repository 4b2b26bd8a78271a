"""Say in words how an `attend` call would run, and why. Computes no attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cynosure.attention.attend import NO_WEIGHTS, planned_calls
from cynosure.attention.backends.call import AttentionCall, AttentionWeights
from cynosure.attention.backends.choice import AUTO, Choice, choose
from cynosure.attention.masks import Cover
from cynosure.attention.plan import AttentionPlan
from cynosure.attention.sources import Source
from cynosure.attention.spec import AttentionSpec

EXPLAIN_BLOCK = 128


@dataclass(frozen=True)
class SourceExplanation:
    """How one source is attended to.

    `density` is the share of its 128 x 128 blocks that are visited, `num_partial` how many of those need
    the mask cell by cell, `num_runs` into how many runs of segments its keys fall.
    """

    mask: str
    choice: Choice
    num_queries: int
    num_keys: int
    density: float
    num_partial: int
    num_runs: int

    def __str__(self) -> str:
        """Return an indented paragraph."""
        lines = [
            f"  {self.num_queries} queries x {self.num_keys} keys under {self.mask}",
            f"    runs on {self.choice.name}; {self.density:.0%} of blocks, {self.num_partial} partial",
        ]
        if self.num_runs:
            lines.append(f"    {self.num_runs} runs of segments, counted in the same pass")
        lines += [f"    not {name}: {'; '.join(reasons)}" for name, reasons in self.choice.rejected]
        return "\n".join(lines)


@dataclass(frozen=True)
class Explanation:
    """How a call would run."""

    spec: AttentionSpec
    sources: tuple[SourceExplanation, ...]

    def __str__(self) -> str:
        """Return the whole text, one paragraph a source."""
        heads = self.spec.heads
        title = (
            f"{heads.num_heads} query heads over {heads.num_kv_heads} K/V heads, "
            f"{heads.head_dim} and {heads.v_head_dim} wide, {self.spec.position}, sink {self.spec.sink.value}"
        )
        parts = [f"source {index}:\n{source}" for index, source in enumerate(self.sources)]
        return "\n".join([title, *parts])


def explain(
    spec: AttentionSpec,
    q: Float[Tensor, "n h d"],
    sources: Sequence[Source],
    plan: AttentionPlan,
    *,
    weights: AttentionWeights = NO_WEIGHTS,
    backend: str = AUTO,
) -> Explanation:
    """Return how `attend` with the same arguments would run; raises what it would raise."""
    calls = planned_calls(spec, q, sources, plan, weights=weights)
    return Explanation(spec, tuple(_explain(call, choose(call, backend)) for call in calls))


def _explain(call: AttentionCall, choice: Choice) -> SourceExplanation:
    maps = [call.mask.block_map(grid, EXPLAIN_BLOCK, EXPLAIN_BLOCK) for grid in call.grids]
    num_blocks = sum(map_.numel() for map_ in maps)
    num_partial = sum(int((map_ == Cover.PARTIAL).sum()) for map_ in maps)
    visited = num_partial + sum(int((map_ == Cover.FULL).sum()) for map_ in maps)
    return SourceExplanation(
        mask=repr(call.mask),
        choice=choice,
        num_queries=call.queries.offsets[-1],
        num_keys=call.keys.offsets[-1],
        density=visited / num_blocks if num_blocks else 0.0,
        num_partial=num_partial,
        num_runs=sum(len(call.keys.segment_runs(seq)) for seq in range(len(maps)))
        if call.num_segments
        else 0,
    )
