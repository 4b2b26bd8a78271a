"""Rows of the table are what a position gives by itself, however far it is."""

from __future__ import annotations

import pytest
import torch

from cynosure.attention.positions import MRope, Rope
from cynosure.models.rotary_rows import FIRST_POSITIONS, RotaryRows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [0, FIRST_POSITIONS - 1, FIRST_POSITIONS, 3 * FIRST_POSITIONS])
def test_rows_are_those_of_the_position(last: int, dtype: torch.dtype) -> None:
    rope = Rope(16, 10_000.0)
    rows, positions = RotaryRows(rope, dtype, 4), torch.tensor([last // 2, 0, last])
    rows.select(positions)
    table = rope.tables(positions, dtype)
    torch.testing.assert_close(rows.cos[:3], table.cos)
    torch.testing.assert_close(rows.sin[:3], table.sin)


def test_a_grown_table_keeps_its_place() -> None:
    """Kernels hold the addresses of `cos` and `sin`."""
    rows = RotaryRows(Rope(16, 10_000.0), torch.float32, 4)
    before = rows.cos.data_ptr(), rows.sin.data_ptr()
    rows.select(torch.tensor([9 * FIRST_POSITIONS]))
    assert (rows.cos.data_ptr(), rows.sin.data_ptr()) == before


def test_positions_on_several_axes_have_rows_of_their_own() -> None:
    position, axes = MRope(16, 10_000.0, (2, 3, 3)), torch.tensor([[0, 5, 7], [0, 5, 9], [0, 5, 8]])
    rows = RotaryRows(position, torch.float32, 4)
    rows.select(axes)
    assert torch.equal(rows.cos[:3], position.tables(axes).cos)
    assert torch.equal(rows.sin[:3], position.tables(axes).sin)
    # On one axis, a position is the same on all.
    rows.select(axes[0])
    table = Rope(16, 10_000.0).tables(axes[0])
    torch.testing.assert_close(rows.cos[:3], table.cos)
    torch.testing.assert_close(rows.sin[:3], table.sin)
