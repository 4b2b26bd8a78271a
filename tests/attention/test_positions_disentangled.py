"""Hold disentangled scores against plain loops, transformers' buckets, and each other's backends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    Heads,
    Score,
    attend,
)
from cynosure.attention.grid import Grid
from cynosure.attention.masks import Causal, Full, Mask
from cynosure.attention.positions import Disentangled, DistanceVectors
from cynosure.core.errors import AttentionError, UnsupportedByBackend

POSITION = Disentangled(span=6, max_distance=20)
HEADS = Heads.of(4, 8, 2)


def grid_of(num_queries: int, num_keys: int) -> Grid:
    """Queries that are the last of the keys."""
    keys = torch.arange(num_keys)
    return Grid(keys[num_keys - num_queries :], keys, num_keys)


def vectors_of(
    position: Disentangled, num_heads: int = 4, dtype: torch.dtype = torch.float64
) -> DistanceVectors:
    dice = torch.Generator().manual_seed(3)
    shape = (num_heads, 2 * position.span, 8)
    return DistanceVectors(*(torch.randn(shape, generator=dice, dtype=torch.float64).to(dtype) for _ in "kq"))


def run(
    lengths: list[int],
    backend: str,
    *,
    mask: Mask | None = None,
    position: Disentangled = POSITION,
    dtype: torch.dtype = torch.float64,
    num_segments: int = 0,
) -> AttentionState:
    dice = torch.Generator().manual_seed(1)
    n = sum(lengths)
    q, k, v = (torch.randn(n, heads, 8, generator=dice, dtype=torch.float64).to(dtype) for heads in (4, 2, 2))
    segments = [[i * num_segments // n for i in range(n)] for n in lengths] if num_segments else None
    plan = AttentionPlan.of_lengths(lengths, segments=segments)
    spec = AttentionSpec(HEADS, mask or Full(), position, Score(scale=0.2))
    weights = AttentionWeights(distance_vectors=vectors_of(position, dtype=dtype))
    return attend(spec, q, [DenseSource(k, v)], plan, weights=weights, backend=backend)


@pytest.mark.parametrize(("span", "longest"), [(16, 48), (256, 512), (4, 9), (64, 100)])
def test_buckets_are_the_published_ones(span: int, longest: int) -> None:
    grid = grid_of(2 * longest + 5, 2 * longest + 5)
    distances = grid.q_positions[:, None] - grid.k_positions
    published = make_log_bucket_position(distances, span, longest).long()
    expected = (published + span).clamp(0, 2 * span - 1)
    assert torch.equal(Disentangled(span, longest).rows(grid), expected)
    assert not torch.equal(Disentangled(span, longest + 20).rows(grid), expected)


def test_distances_beyond_the_span_share_a_row() -> None:
    rows = Disentangled(3).rows(grid_of(9, 9))
    assert rows[8].tolist() == [5, 5, 5, 5, 5, 5, 5, 4, 3]
    assert rows[0].tolist() == [3, 2, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("terms", [(True, True), (True, False), (False, True)])
def test_scores_are_those_of_a_plain_loop(terms: tuple[bool, bool]) -> None:
    position = Disentangled(6, 20, *terms)
    vectors, grid = vectors_of(position), grid_of(5, 11)
    q, k = torch.randn(4, 5, 8, dtype=torch.float64), torch.randn(2, 11, 8, dtype=torch.float64)
    got, rows = position.scores(q, k, grid, vectors), position.rows(grid)
    assert vectors.keys is not None
    assert vectors.queries is not None
    for head in range(4):
        for i in range(5):
            for j in range(11):
                row, key = rows[i, j], k[head // 2, j]
                wanted = terms[0] * (q[head, i] @ vectors.keys[head, row])
                wanted = wanted + terms[1] * (vectors.queries[head, row] @ key)
                assert torch.isclose(got[head, i, j], wanted)


@pytest.mark.parametrize("lengths", [[1], [127, 1], [128], [129, 3]], ids=str)
@pytest.mark.parametrize("mask", [Full(), Causal()], ids=repr)
@pytest.mark.parametrize("backend", ["tiled", "sdpa"])
def test_backends_equal_the_reference(backend: str, mask: Mask, lengths: list[int]) -> None:
    expected = run(lengths, "reference", mask=mask)
    got = run(lengths, backend, mask=mask)
    torch.testing.assert_close(got.out, expected.out, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(got.lse, expected.lse, atol=1e-10, rtol=1e-10)


def test_segments_split_and_merge() -> None:
    expected, got = run([40, 9], "reference"), run([40, 9], "sdpa", num_segments=3)
    torch.testing.assert_close(got.out, expected.out, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrow_dtypes_stay_near(dtype: torch.dtype) -> None:
    expected, got = run([70], "reference"), run([70], "sdpa", dtype=dtype)
    bar = 1e-5 if dtype == torch.float32 else 0.1
    assert (got.out.double() - expected.out).abs().max() < bar


def test_a_term_that_is_left_out_is_noticed() -> None:
    whole = run([30], "sdpa").out
    for part in (replace(POSITION, has_content_to_position=False), replace(POSITION, span=8)):
        assert (run([30], "sdpa", position=part).out - whole).abs().max() > 0.01


@pytest.mark.parametrize(("backend", "reason"), [("native", "Disentangled|kernels"), ("flex", "compare")])
def test_what_cannot_serve_it_says_so(backend: str, reason: str) -> None:
    with pytest.raises(UnsupportedByBackend, match=reason):
        run([4], backend, dtype=torch.float32)


def _zeros(rows: int) -> Tensor:
    return torch.zeros(4, rows, 8)


@pytest.mark.parametrize(
    "vectors",
    [None, DistanceVectors(), DistanceVectors(_zeros(11))],
    ids=["none", "empty", "short"],
)
def test_vectors_that_are_missing_are_named(vectors: DistanceVectors | None) -> None:
    with pytest.raises(AttentionError, match="of keys of 4 heads, 8 wide"):
        POSITION.scores(torch.zeros(4, 30, 8), torch.zeros(2, 30, 8), grid_of(30, 30), vectors)


@pytest.mark.parametrize("position", [POSITION, Disentangled(3)], ids=repr)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 19, 20, 21, 40])
def test_the_rows_that_a_length_reads_are_enough(position: Disentangled, length: int) -> None:
    rows, vectors = position.rows_within(length), vectors_of(position)
    q, k = (torch.randn(heads, length, 8, dtype=torch.float64) for heads in (4, 2))
    assert vectors.keys is not None
    assert vectors.queries is not None
    part = DistanceVectors(vectors.keys[:, rows], vectors.queries[:, rows], rows.start)
    whole = position.scores(q, k, grid_of(length, length), vectors)
    assert torch.equal(position.scores(q, k, grid_of(length, length), part), whole)
    fewer = DistanceVectors(vectors.keys[:, rows][:, 1:], vectors.queries[:, rows][:, 1:], rows.start + 1)
    with pytest.raises(AttentionError, match="rows -1"):
        position.scores(q, k, grid_of(length, length), fewer)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((0,), "span"),
        ((7, 20), "even"),
        ((8, 5), "max_distance"),
        ((8, None, False, False), "neither"),
    ],
)
def test_what_makes_no_sense_is_refused(values: tuple, named: str) -> None:
    with pytest.raises(AttentionError, match=named):
        Disentangled(*values)
