"""int4 by tiles of integers gives the bits of dot products. Knows nothing of what the products should be."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.kernels import kernels
from cynosure.kernels.linear import Activation, Type, Way, has_tiles
from tests.kernels.packed import Floats, Matrix, run

#: Groups of one and of several tiles, of whole tiles and of halves, and one that is wider than most matrices.
GROUPS = [32, 64, 96, 128, 512]
#: Rows around tiles of 16 and around the fours that their sums are added up by.
ROWS = [1, 3, 4, 5, 8, 9, 12, 13, 15, 16, 17, 20, 31, 32, 33, 48, 49, 64, 65, 100]
#: Outputs and columns around blocks, groups, what all rows pass at once and what is unpacked at a time.
SHAPES = [(1, 1), (16, 64), (17, 63), (34, 129), (48, 577), (40, 1024), (33, 1089), (16, 2100)]


def random(rows: int, columns: int) -> Floats:
    x = np.random.randn(rows, columns).astype(np.float32)
    return x * np.where(np.random.rand(columns) < 0.03, 20, 1).astype(np.float32)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_groups_give_the_bits_of_rows(variant: str, group: int, shape: tuple[int, int]) -> None:
    packed = Matrix(Type.INT4, *shape, group).packed(np.random.randn(shape[0]).astype(np.float32))
    for rows in ROWS:
        x = random(rows, shape[1])
        assert np.array_equal(run(packed, x, Way.GROUPS), run(packed, x, Way.ROWS)), rows


@pytest.mark.parametrize("group", GROUPS)
def test_a_gate_and_its_up_give_the_bits_of_rows(variant: str, group: int) -> None:
    packed = Matrix(Type.INT4, 90, 640, group).packed(is_gated=True)
    for rows in ROWS:
        x, silu = random(rows, 640), Activation.SILU
        ours = run(packed, x, Way.GROUPS, activation=silu)
        assert np.array_equal(ours, run(packed, x, Way.ROWS, activation=silu)), rows


def test_ragged_shapes(variant: str) -> None:
    for _ in range(40):
        rows, columns, num_rows = (int(n) for n in np.random.randint(1, [90, 700, 80]))
        packed = Matrix(Type.INT4, rows, columns, int(np.random.choice(GROUPS))).packed()
        x = random(num_rows, columns)
        assert np.array_equal(run(packed, x, Way.GROUPS), run(packed, x, Way.ROWS)), (rows, columns, num_rows)


@pytest.mark.parametrize("num_threads", range(1, 9))
def test_threads_change_no_bit(threads: None, num_threads: int) -> None:
    packed, x = Matrix(Type.INT4, 200, 1300).packed(), random(40, 1300)
    kernels().set_num_threads(1)
    alone = run(packed, x, Way.ROWS)
    kernels().set_num_threads(num_threads)
    for _ in range(20):
        assert np.array_equal(run(packed, x, Way.GROUPS), alone)


def test_auto_goes_from_rows_over_groups_to_tiles(variant: str) -> None:
    """Up to some dozens of rows a row's bits are those of dot products; of many rows, those of tiles."""
    packed, x = Matrix(Type.INT4, 50, 300).packed(), random(300, 300)
    rows, tiles = run(packed, x, Way.ROWS), run(packed, x, Way.TILES)
    for num_rows in range(1, 25):
        assert np.array_equal(run(packed, x[:num_rows], Way.AUTO), rows[:num_rows]), num_rows
    assert np.array_equal(run(packed, x, Way.AUTO), tiles)
    # The positive control: where there are tiles, their bits are others.
    assert np.array_equal(rows, tiles) != has_tiles(Type.INT4)
