"""Pack matrices and multiply by them. Knows nothing of tensors: callers pass addresses, and keep them alive.

The structs mirror `cpu/linear_api.h`, which also says how weights are packed and activations quantised.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import final

from cynosure.kernels.library import kernels
from cynosure.kernels.memory import Arena

MAX_COLUMNS = 1 << 17
"""A sum of so many products of codes fits 32 bits."""


BLOCK_ROWS = 16
"""Rows of a matrix that are packed together (`cpu/linear_api.h`)."""


class Type(IntEnum):
    """What numbers are stored as."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3


class RowNorm(IntEnum):
    """What is done to a row before the product."""

    NONE = 0
    RMS = 1
    LAYER = 2


class Activation(IntEnum):
    """What is done to the product, or to its gate."""

    IDENTITY = 0
    SILU = 1
    GELU = 2
    GELU_TANH = 3
    RELU = 4


class Way(IntEnum):
    """How products are computed: by dot products, by tiles, by a tile a group, or as the rows advise."""

    AUTO = 0
    ROWS = 1
    TILES = 2
    GROUPS = 3


class CLinear(ctypes.Structure):
    """`CynLinear`."""

    _fields_ = (
        ("type", ctypes.c_int64),
        ("num_rows", ctypes.c_int64),
        ("num_columns", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("is_gated", ctypes.c_int64),
        ("num_blocks", ctypes.c_int64),
        ("padded_columns", ctypes.c_int64),
        ("code_bytes", ctypes.c_int64),
        ("scale_bytes", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class CLinearCall(ctypes.Structure):
    """`CynLinearCall`."""

    _fields_ = (
        ("num_rows", ctypes.c_int64),
        ("way", ctypes.c_int64),
        ("x", ctypes.c_void_p),
        ("x_type", ctypes.c_int64),
        ("x_stride", ctypes.c_int64),
        ("norm", ctypes.c_int64),
        ("norm_weight", ctypes.c_void_p),
        ("norm_bias", ctypes.c_void_p),
        ("norm_eps", ctypes.c_double),
        ("activation", ctypes.c_int64),
        ("residual", ctypes.c_void_p),
        ("residual_stride", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("out_type", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
    )


@dataclass(frozen=True)
class LinearShape:
    """A matrix to be packed: `num_rows` outputs (gate and up together where gated) of `num_columns` inputs.

    `group` is the number of columns that share a scale of int4; 0 for other types.
    """

    type: Type
    num_rows: int
    num_columns: int
    group: int = 0
    is_gated: bool = False
    has_bias: bool = False

    def __post_init__(self) -> None:
        """Check what the kernels take for granted."""
        assert self.num_rows > 0
        assert 0 < self.num_columns <= MAX_COLUMNS
        assert (self.group > 0 and self.group % 32 == 0) == (self.type is Type.INT4)
        assert not (self.is_gated and self.num_rows % 2)

    @property
    def num_outputs(self) -> int:
        """Columns of what a call gives."""
        return self.num_rows // 2 if self.is_gated else self.num_rows

    @cached_property
    def layout(self) -> CLinear:
        """The struct without its addresses."""
        struct = CLinear(self.type, self.num_rows, self.num_columns, self.group, self.is_gated)
        kernels().c.cyn_linear_layout(ctypes.byref(struct))
        return struct


@dataclass(frozen=True)
class Rows:
    """Row-major rows of a source: addresses of `[num_rows, num_columns]` values and of what belongs to them.

    - `type`: of the values: float32 or bfloat16 for float weights, else the codes' own.
    - `scales`: float32 `[num_rows]` of int8, bfloat16 `[num_rows, groups]` of int4, else 0.
    - `bias`: float32 `[num_rows]`, or 0.
    """

    type: Type
    values: int
    num_rows: int
    scales: int = 0
    bias: int = 0


@final
class PackedLinear:
    """A matrix as the kernels read it."""

    def __init__(self, shape: LinearShape, arena: Arena | None = None) -> None:
        """Take memory from `arena`, or from one of its own; `put` fills it."""
        self.shape = shape
        self.arena = arena or Arena()
        layout = shape.layout
        self.struct = CLinear.from_buffer_copy(layout)
        self.struct.codes = self.arena.take(layout.code_bytes)
        self.struct.scales = self.arena.take(layout.scale_bytes) if layout.scale_bytes else None
        self.struct.bias = self.arena.take(64 * layout.num_blocks) if shape.has_bias else None
        # Looked up once: a decoding step makes a hundred calls.
        self._compute = kernels().c.cyn_linear
        self._address = ctypes.byref(self.struct)

    @cached_property
    def ungated(self) -> CLinear:
        """The same matrix as one that is not gated: blocks of `BLOCK_ROWS` of gate and of up take turns."""
        struct = CLinear.from_buffer_copy(self.struct)
        struct.is_gated, struct.num_rows = 0, BLOCK_ROWS * struct.num_blocks
        return struct

    def run_ungated(self, call: CLinearCall) -> None:
        """Compute `call` without the gate: it gives every block's outputs, padding included."""
        self._compute(ctypes.byref(self.ungated), ctypes.byref(call))

    def put(self, rows: Rows, first_row: int = 0, *, is_up: bool = False) -> None:
        """Copy a source's rows to where row `first_row` (of gate or up, where gated) begins; once only."""
        is_float = self.shape.type in (Type.FLOAT32, Type.BFLOAT16)
        assert rows.type in (Type.FLOAT32, Type.BFLOAT16) if is_float else rows.type is self.shape.type
        assert first_row + rows.num_rows <= self.shape.num_outputs
        assert bool(rows.scales) != is_float
        assert self.shape.has_bias or not rows.bias
        kernels().c.cyn_linear_pack(
            ctypes.byref(self.struct),
            ctypes.c_void_p(rows.values),
            ctypes.c_int64(rows.type),
            ctypes.c_void_p(rows.scales),
            ctypes.c_void_p(rows.bias),
            ctypes.c_int64(rows.num_rows),
            ctypes.c_int64(first_row),
            ctypes.c_int64(int(is_up)),
        )

    def look_up(self, ids: int, num_ids: int, out: int) -> None:
        """Write rows of the matrix to float32 `out`; `ids` is int64, each of a row that exists."""
        assert not self.shape.is_gated
        kernels().c.cyn_linear_lookup(
            ctypes.byref(self.struct), ctypes.c_void_p(ids), ctypes.c_int64(num_ids), ctypes.c_void_p(out)
        )

    def run(self, call: CLinearCall) -> None:
        """Compute `call`; its addresses must be alive."""
        self._compute(self._address, ctypes.byref(call))


def has_tiles(of: Type) -> bool:
    """Whether the variant in use has tiles for weights of this type."""
    return bool(kernels().c.cyn_has_tiles(ctypes.c_int64(of)))
