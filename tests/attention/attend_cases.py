"""Draw whole `attend` calls: specs, ragged layouts, tensors. Knows nothing of what must hold of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    Heads,
    LogN,
    Score,
    Sink,
    Source,
    Watch,
    attend,
)
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.positions import Alibi, NoPosition, Position, T5Bias
from cynosure.kernels import why_none

# Masks whose cells depend on positions alone, so that keys can be split, moved and cut off.
CAUSAL_MASKS = (
    "Causal()",
    "Causal() & Window(9)",
    "Causal() & (Window(6) | Global(2))",
    "Causal() & Chunk(7)",
    "Causal() & (Dilated(3, 2) | Global(1))",
    "Causal() & (Blocks(4, 1) | Random(4, 2, 5) | Global(4))",
    "Causal() & ~Window(3)",
)
OPEN_MASKS = ("Full()", "Window(5)", "Global(2) | Window(4)", "Blocks(4, 1) | Global(3)", "~Causal()")
BLOCK_LENGTHS = (0, 1, 3, 7, 8, 9, 17, 33)
NATIVE = pytest.param("native", marks=pytest.mark.skipif(bool(why_none()), reason=why_none()))


@dataclass(frozen=True)
class Case:
    """One `attend` call in float64; `to` gives it in another dtype."""

    spec: AttentionSpec
    q: Tensor
    k: Tensor
    v: Tensor
    plan: AttentionPlan
    weights: AttentionWeights

    @property
    def sources(self) -> list[Source]:
        """The keys as one dense source."""
        return [DenseSource(self.k, self.v)]

    @property
    def q_lens(self) -> list[int]:
        """Queries of each sequence."""
        return _lens(self.plan.queries.offsets)

    @property
    def kv_lens(self) -> list[int]:
        """Keys of each sequence."""
        return _lens(self.plan.keys[0].offsets)

    def to(self, dtype: torch.dtype) -> Case:
        """Round every tensor to `dtype`."""
        weights = AttentionWeights(
            **{name: None if value is None else value.to(dtype) for name, value in vars(self.weights).items()}
        )
        return replace(self, q=self.q.to(dtype), k=self.k.to(dtype), v=self.v.to(dtype), weights=weights)

    def attend(self, backend: str = "reference", watch: Watch | None = None) -> AttentionState:
        """Run the call."""
        return attend(
            self.spec, self.q, self.sources, self.plan, weights=self.weights, watch=watch, backend=backend
        )


def _lens(offsets: Sequence[int]) -> list[int]:
    return [stop - start for start, stop in pairwise(offsets)]


@st.composite
def cases(
    draw: st.DrawFn, *, masks: Sequence[str] = CAUSAL_MASKS + OPEN_MASKS, is_plain: bool = False
) -> Case:
    """Draw a call of one to three ragged sequences; `is_plain` leaves out what the fused kernel refuses."""
    num_kv_heads, group_size = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)]))
    num_heads = num_kv_heads * group_size
    head_dim = draw(st.sampled_from([4, 8]))
    v_head_dim = head_dim if is_plain else draw(st.sampled_from([head_dim, 2, 12]))
    position = draw(st.sampled_from([NoPosition(), Alibi(num_heads), T5Bias(8, 16, True)]))
    score = Score(
        scale=draw(st.sampled_from([None, 1.0, 0.3])),
        softcap=None if is_plain else draw(st.sampled_from([None, 2.0])),
        log_n=draw(st.sampled_from([None, LogN(4)])),
    )
    spec = AttentionSpec(
        Heads.of(num_heads, head_dim, num_kv_heads, v_head_dim),
        parse_mask(draw(st.sampled_from(masks))),
        position,
        score,
        draw(st.sampled_from(list(Sink))),
    )
    kv_lens = draw(st.lists(st.sampled_from(BLOCK_LENGTHS), min_size=1, max_size=3))
    # A whole prompt is a case of its own: fused kernels have a flag for the square causal mask.
    is_prompt = draw(st.booleans())
    q_lens = [length if is_prompt else draw(st.integers(0, length)) for length in kv_lens]
    num_segments = draw(st.integers(0, 4))
    return make_case(spec, q_lens, kv_lens, seed=draw(st.integers(0, 2**31)), num_segments=num_segments)


def make_case(
    spec: AttentionSpec,
    q_lens: Sequence[int],
    kv_lens: Sequence[int],
    *,
    seed: int = 0,
    num_segments: int = 1,
) -> Case:
    """Return a call with random tensors, scores spread wide, and segments in sorted runs."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random) * spread

    heads = spec.heads
    segments = (
        None
        if not num_segments
        else [
            sorted(torch.randint(0, num_segments, (length,), generator=random).tolist()) for length in kv_lens
        ]
    )
    weights = AttentionWeights(
        sinks=normal(heads.num_heads) if spec.sink is Sink.LEARNED else None,
        position_table=normal(spec.position.num_buckets, heads.num_heads)
        if isinstance(spec.position, T5Bias)
        else None,
    )
    plan = AttentionPlan.of_lengths(q_lens, kv_lens, segments=segments)
    return Case(
        spec=spec,
        q=normal(sum(q_lens), heads.num_heads, heads.head_dim, spread=2.0),
        k=normal(sum(kv_lens), heads.num_kv_heads, heads.head_dim),
        v=normal(sum(kv_lens), heads.num_kv_heads, heads.v_head_dim),
        plan=replace(plan, num_segments=num_segments),
        weights=weights,
    )


def fitted(case: Case, backend: str) -> Case:
    """Round what a backend has no float64 for; it is then held to `tolerance_of` it."""
    return case.to(torch.float32) if backend == "native" else case


def tolerance_of(backend: str, exact: float = 1e-10) -> float:
    """Return by how much two ways to the same result may differ: rounding of what the backend computes in."""
    return 2e-5 if backend == "native" else exact


def plain_spec(
    mask: str = "Causal()", *, num_heads: int = 4, num_kv_heads: int = 2, position: Position | None = None
) -> AttentionSpec:
    """Return an ordinary grouped-query layer of width 8."""
    return AttentionSpec(Heads.of(num_heads, 8, num_kv_heads), parse_mask(mask), position or NoPosition())


def assert_same(a: AttentionState, b: AttentionState, tolerance: float = 1e-10) -> None:
    """Fail where two states differ by more than rounding."""
    torch.testing.assert_close(a.out, b.out, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(a.lse, b.lse, atol=tolerance, rtol=tolerance)
