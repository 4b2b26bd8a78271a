"""Rows of the table are what a position gives by itself, however far it is."""

from __future__ import annotations

import pytest
import torch

from cynosure.attention.positions import Rope
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
