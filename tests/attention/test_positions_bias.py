"""Check score biases against transformers. Knows nothing of rotations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from cynosure.attention.grid import Grid
from cynosure.attention.positions import Alibi, NoPosition, Position, T5Bias, score_bias
from cynosure.core.errors import AttentionError

HEADS = [1, 2, 3, 8, 12, 16, 20, 32, 71, 112]


def square(n: int, first: int = 0) -> Grid:
    positions = torch.arange(first, first + n)
    return Grid(positions, positions, n)


def far_and_near(reach: int) -> Grid:
    """One query, and keys up to `reach` away on both sides."""
    return Grid(torch.tensor([reach]), torch.arange(2 * reach + 1), 2 * reach + 1)


class TestAlibi:
    @pytest.mark.parametrize("num_heads", HEADS)
    def test_slopes_are_blooms(self, num_heads: int) -> None:
        bloom = build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), num_heads, torch.float32)[:, 0, 1]
        torch.testing.assert_close(Alibi(num_heads).slopes(), bloom, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("num_heads", [8, 12])
    def test_softmax_is_blooms(self, num_heads: int) -> None:
        n = 200
        scores = torch.randn(num_heads, n, n) * 3
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        bloom = build_alibi_tensor(torch.ones(1, n, dtype=torch.int64), num_heads, torch.float32)
        expected = (scores + bloom).masked_fill(future, -torch.inf).softmax(-1)
        got = (scores + Alibi(num_heads).bias(square(n))).masked_fill(future, -torch.inf).softmax(-1)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
        wrong = (scores - Alibi(num_heads).bias(square(n))).masked_fill(future, -torch.inf).softmax(-1)
        assert not torch.allclose(wrong, expected, rtol=1e-4, atol=1e-6)

    def test_both_directions_fall_alike(self) -> None:
        bias = Alibi(3).bias(square(9, first=4))
        assert torch.equal(bias, bias.transpose(1, 2))
        assert bias[0, 2].tolist() == [-abs(2 - k) / 16 for k in range(9)]

    def test_float64_is_kept(self) -> None:
        bias = Alibi(12).bias(square(5), dtype=torch.float64)
        assert bias.dtype == torch.float64
        assert bias[1, 4, 0].item() == -4 * 2.0**-2

    def test_no_heads_are_refused(self) -> None:
        with pytest.raises(AttentionError, match="at least 1 head, got num_heads 0"):
            Alibi(0)


class TestT5:
    @pytest.mark.parametrize("is_bidirectional", [True, False])
    @pytest.mark.parametrize(
        ("num_buckets", "max_distance"),
        [(32, 128), (32, 64), (64, 256), (16, 20), (64, 34), (7, 100), (320, 800)],
    )
    def test_buckets_are_exact_at_every_distance(
        self, num_buckets: int, max_distance: int, is_bidirectional: bool
    ) -> None:
        grid = far_and_near(10_000)
        relative = grid.k_positions - grid.q_positions[:, None]
        expected = T5Attention._relative_position_bucket(
            relative, is_bidirectional, num_buckets, max_distance
        )
        got = T5Bias(num_buckets, max_distance, is_bidirectional).buckets(grid)
        assert torch.equal(got, expected)
        for wrong in (
            T5Bias(num_buckets, max_distance + 9, is_bidirectional),
            T5Bias(num_buckets, max_distance, not is_bidirectional),
        ):
            assert not torch.equal(wrong.buckets(grid), expected)

    def test_bias_reads_the_table(self) -> None:
        table, grid = torch.randn(32, 5), Grid(torch.tensor([3, 700]), torch.arange(900), 900)
        bias, buckets = T5Bias().bias(grid, table), T5Bias().buckets(grid)
        assert bias.shape == (5, 2, 900)
        for head, row, column in [(0, 0, 0), (4, 1, 899), (2, 1, 700), (3, 0, 3)]:
            assert bias[head, row, column] == table[buckets[row, column], head]

    def test_the_dtype_is_the_tables(self) -> None:
        assert T5Bias().bias(square(3), torch.zeros(32, 2, dtype=torch.float64)).dtype == torch.float64

    def test_unusable_numbers_are_refused(self) -> None:
        cases = {
            "at least 4 buckets here, got 3": lambda: T5Bias(3),
            "at least 2 buckets here, got 1": lambda: T5Bias(1, is_bidirectional=False),
            "max_distance over 8": lambda: T5Bias(32, 8),
            "at most 1048576": lambda: T5Bias(32, 1 << 30),
        }
        for says, make in cases.items():
            with pytest.raises(AttentionError, match=says):
                make()


KINDS: list[tuple[Position, torch.Tensor | None]] = [
    (Alibi(3), None),
    (T5Bias(8, 20), torch.randn(8, 3)),
    (T5Bias(8, 20, is_bidirectional=False), torch.randn(8, 3)),
]


@pytest.mark.parametrize(("position", "table"), KINDS, ids=lambda value: str(value)[:40])
class TestScoreBias:
    @given(cuts=st.tuples(*[st.integers(0, 12)] * 4))
    def test_a_tile_has_its_part_of_the_whole(
        self, position: Position, table: torch.Tensor | None, cuts: tuple[int, int, int, int]
    ) -> None:
        rows, columns = slice(*sorted(cuts[:2])), slice(*sorted(cuts[2:]))
        grid = Grid(torch.arange(30, 42), torch.arange(12) * 5, 12)
        whole, part = score_bias(position, grid, table), score_bias(position, grid.tile(rows, columns), table)
        assert whole is not None
        assert part is not None
        assert torch.equal(part, whole[:, rows, columns])

    @given(delta=st.integers(-5000, 5000))
    def test_only_distances_count(self, position: Position, table: torch.Tensor | None, delta: int) -> None:
        here, there = (score_bias(position, square(9, first), table) for first in (0, delta))
        assert here is not None
        assert there is not None
        assert torch.equal(here, there)

    @pytest.mark.parametrize(("num_rows", "num_columns"), [(0, 0), (0, 3), (1, 0), (1, 1)])
    def test_edges(
        self, position: Position, table: torch.Tensor | None, num_rows: int, num_columns: int
    ) -> None:
        grid = Grid(torch.arange(num_rows), torch.arange(num_columns), num_columns)
        bias = score_bias(position, grid, table)
        assert bias is not None
        assert bias.shape == (3, num_rows, num_columns)

    def test_says_that_it_adds(self, position: Position, table: torch.Tensor | None) -> None:
        assert position.adds_bias
        assert hash(position) is not None


def test_no_position_adds_nothing() -> None:
    assert not NoPosition().adds_bias
    assert score_bias(NoPosition(), square(3)) is None
    assert score_bias(NoPosition(), square(3), torch.zeros(32, 2)) is None


@pytest.mark.parametrize("table", [None, torch.zeros(31, 2)])
def test_a_missing_or_wrong_table_is_refused(table: torch.Tensor | None) -> None:
    with pytest.raises(AttentionError, match=r"reads a table of \[32, num_heads\], got"):
        score_bias(T5Bias(), square(3), table)
