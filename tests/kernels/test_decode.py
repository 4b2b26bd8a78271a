"""A step's numbers and rows are those that a plain loop gives, in every variant."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from cynosure.kernels import why_none
from cynosure.kernels.decode import CAngles, CBound, CDecodeStep, CGroup, begin_decode, struct_size
from cynosure.kernels.linear import Type
from tests.kernels.packed import Matrix, from_bf16, to_bf16

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

BLOCK = 8
UNWRITTEN = -7


class Stepped:
    """The buffers of a step, with one place more than it may write to."""

    def __init__(self, past_lens: list[int], bounds: list[tuple[int, int]], width: int = 5) -> None:
        count = len(past_lens)
        self.past_lens = np.array(past_lens, np.int64)
        self.token_ids = np.arange(count, dtype=np.int64)[::-1].copy()
        self.table = np.random.permutation(count * width).reshape(count, width).astype(np.int64)
        self.positions, self.slots = (np.full(count + 1, UNWRITTEN) for _ in range(2))
        self.cu_k = np.full(count + 2, UNWRITTEN)
        self.lows = [np.full(count + 1, UNWRITTEN) for _ in bounds]
        self.bounds = (CBound * max(1, len(bounds)))(
            *(CBound(*bound, low.ctypes.data) for bound, low in zip(bounds, self.lows, strict=True))
        )
        self.struct = CDecodeStep(num_seqs=count, table_stride=width, block_size=BLOCK, multiplier=1.0)
        self.struct.token_ids, self.struct.past_lens = self.token_ids.ctypes.data, self.past_lens.ctypes.data
        self.struct.block_table, self.struct.positions = self.table.ctypes.data, self.positions.ctypes.data
        self.struct.slots, self.struct.cu_k = self.slots.ctypes.data, self.cu_k.ctypes.data
        self.struct.num_bounds, self.struct.bounds = len(bounds), self.bounds


def test_the_struct_is_the_librarys() -> None:
    assert ctypes.sizeof(CDecodeStep) == struct_size()


@pytest.mark.parametrize(
    "past_lens", [[0], [BLOCK - 1], [BLOCK], [BLOCK + 1], [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK - 1]]
)
def test_places(past_lens: list[int]) -> None:
    bounds = [(0, 0), (1, 0), (BLOCK, 0), (0, 3), (5, BLOCK)]
    step = Stepped(past_lens, bounds)
    begin_decode(step.struct)
    assert step.positions.tolist() == [*past_lens, UNWRITTEN]
    assert step.cu_k.tolist() == [0, *np.cumsum(step.past_lens + 1), UNWRITTEN]
    slots = [
        table[past // BLOCK] * BLOCK + past % BLOCK for table, past in zip(step.table, past_lens, strict=True)
    ]
    assert step.slots.tolist() == [*slots, UNWRITTEN]
    for low, (window, chunk) in zip(step.lows, bounds, strict=True):
        for seq, past in enumerate(past_lens):
            seen = [
                key
                for key in range(past + 1)
                if (not window or past - key < window) and (not chunk or past // chunk == key // chunk)
            ]
            assert max(low[seq], 0) == seen[0]
        assert low[-1] == UNWRITTEN


@pytest.mark.parametrize("past_lens", [[0], [BLOCK - 1, BLOCK], [5 * BLOCK - 1, 2]])
def test_places_of_groups(past_lens: list[int]) -> None:
    step = Stepped(past_lens, [])
    page_of = np.random.permutation(step.table.size).astype(np.int64)
    table, slots = np.full_like(step.table, UNWRITTEN), np.full(len(past_lens) + 1, UNWRITTEN)
    group = CGroup(page_of.ctypes.data, table.ctypes.data, slots.ctypes.data)
    step.struct.num_groups, step.struct.groups = 1, ctypes.pointer(group)
    begin_decode(step.struct)
    for seq, past in enumerate(past_lens):
        held = past // BLOCK + 1
        assert np.array_equal(table[seq, :held], page_of[step.table[seq, :held]])
        assert (table[seq, held:] == UNWRITTEN).all()
        assert slots[seq] == table[seq, held - 1] * BLOCK + past % BLOCK
    assert slots[-1] == UNWRITTEN


def test_angles() -> None:
    step, rng = Stepped([0, 6, 3], []), np.random.default_rng(0)
    cos, sin = (rng.normal(size=(7, 6)).astype(np.float32) for _ in range(2))
    rows = [np.full((4, 6), UNWRITTEN, np.float32) for _ in range(2)]
    angles = CAngles(cos.ctypes.data, sin.ctypes.data, 24, *(row.ctypes.data for row in rows))
    step.struct.num_angles, step.struct.angles = 1, ctypes.pointer(angles)
    begin_decode(step.struct)
    for table, row in zip((cos, sin), rows, strict=True):
        assert np.array_equal(row[:3], table[[0, 6, 3]])
        assert (row[3] == UNWRITTEN).all()


def vectors(step: Stepped, width: int, of: Type) -> NDArray:
    """Have the step write its tokens' vectors."""
    kind = np.float32 if of is Type.FLOAT32 else np.uint16
    x = np.zeros((len(step.token_ids) + 1, width), kind)
    step.struct.hidden_size, step.struct.x_type, step.struct.x = width, of, x.ctypes.data
    begin_decode(step.struct)
    assert not x[-1].any()
    return x[:-1]


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
@pytest.mark.parametrize("of", [Type.FLOAT32, Type.BFLOAT16])
def test_rows_of_a_plain_table(of: Type, multiplier: float) -> None:
    step, wide = Stepped([0, 1, 2], []), np.random.randn(3, 21).astype(np.float32)
    table = wide if of is Type.FLOAT32 else to_bf16(wide)
    step.struct.rows, step.struct.multiplier = table.ctypes.data, multiplier
    expected = (wide if of is Type.FLOAT32 else from_bf16(table))[step.token_ids] * np.float32(multiplier)
    found = vectors(step, 21, of)
    assert np.array_equal(found, expected if of is Type.FLOAT32 else to_bf16(expected))


@pytest.mark.parametrize("of", [Type.FLOAT32, Type.BFLOAT16])
@pytest.mark.parametrize("kept", list(Type))
def test_rows_of_a_packed_matrix(kept: Type, of: Type, variant: str) -> None:
    step, matrix = Stepped([0, 1, 2], []), Matrix(kept, 40, 70)
    packed, unpacked = matrix.packed(), np.zeros((3, 70), np.float32)
    step.token_ids[:] = [39, 0, 17]
    step.struct.packed, step.struct.unpacked = ctypes.pointer(packed.struct), unpacked.ctypes.data
    found = vectors(step, 70, of)
    expected = matrix.weights[[39, 0, 17]].astype(np.float32)
    if of is Type.BFLOAT16:
        assert np.array_equal(found, to_bf16(unpacked))
        assert np.allclose(from_bf16(found), expected, rtol=2**-7)
    else:
        assert np.allclose(found, expected, rtol=1e-6)
