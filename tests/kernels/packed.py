"""Make packed matrices beside the float64 products that they must give. Knows nothing of what is asserted.

Activations are rounded or quantised here by the formulas of `cpu/linear_api.h`, so that what is left between
a kernel and its reference is the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cynosure.kernels.linear import CLinearCall, LinearShape, PackedLinear, Rows, Type, Way

GROUP = 32
Floats = NDArray[np.float32]
Wide = NDArray[np.float64]


def to_bf16(values: NDArray) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bf16(bits: NDArray[np.uint16]) -> Floats:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def quantised(x: Floats) -> Wide:
    """Return what the codes of each row of `x` stand for."""
    size = np.abs(x).max(-1, keepdims=True, initial=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(size > 1e-30, np.float32(127) / size, np.float32(0)).astype(np.float32)
    codes = np.rint(np.clip(x * inverse, -127, 127))
    scale = np.where(size > 1e-30, size / np.float32(127), np.float32(0)).astype(np.float32)
    return codes.astype(np.float64) * scale


def quantised_groups(x: Floats, group: int = GROUP) -> Wide:
    num_rows, width = x.shape
    padded = np.pad(x, ((0, 0), (0, -width % group))).reshape(num_rows, -1, group)
    return np.stack([quantised(row) for row in padded]).reshape(num_rows, -1)[:, :width]


@dataclass
class Matrix:
    """A random matrix `[rows, columns]` as the kernels get it, and what its numbers stand for."""

    type: Type
    rows: int
    columns: int
    group: int = GROUP  # columns that share a scale of int4
    values: NDArray = field(init=False)
    scales: NDArray | None = field(init=False, default=None)
    weights: Wide = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.rows, self.columns)
        if self.type is Type.FLOAT32:
            self.values = np.random.randn(*shape).astype(np.float32)
            self.weights = self.values.astype(np.float64)
        elif self.type is Type.BFLOAT16:
            self.values = to_bf16(np.random.randn(*shape))
            self.weights = from_bf16(self.values).astype(np.float64)
        elif self.type is Type.INT8:
            self.values = np.random.randint(-127, 128, shape).astype(np.int8)
            self.scales = (np.random.rand(self.rows) / 100).astype(np.float32)
            self.weights = self.values * self.scales[:, None].astype(np.float64)
        else:
            codes = np.random.randint(0, 16, shape).astype(np.uint8)
            even = np.pad(codes, ((0, 0), (0, self.columns % 2)))
            self.values = np.ascontiguousarray(even[:, ::2] | even[:, 1::2] << 4)
            self.scales = to_bf16(np.random.randn(self.rows, -(-self.columns // self.group)) / 8)
            spread = np.repeat(from_bf16(self.scales), self.group, axis=1)[:, : self.columns]
            self.weights = (codes.astype(np.float64) - 8) * spread

    def source(self, first: int = 0, last: int | None = None, bias: Floats | None = None) -> Rows:
        """Return some of the rows as `PackedLinear.put` takes them."""
        values = self.values[first:last]
        scales = None if self.scales is None else self.scales[first:last]
        return Rows(
            self.type,
            values.ctypes.data,
            len(values),
            0 if scales is None else scales.ctypes.data,
            0 if bias is None else bias.ctypes.data,
        )

    def packed(self, bias: Floats | None = None, *, is_gated: bool = False) -> PackedLinear:
        group = self.group if self.type is Type.INT4 else 0
        packed = PackedLinear(
            LinearShape(self.type, self.rows, self.columns, group, is_gated, bias is not None)
        )
        if is_gated:
            half = self.rows // 2
            packed.put(self.source(0, half, None if bias is None else bias[:half]))
            packed.put(self.source(half, None, None if bias is None else bias[half:]), is_up=True)
        else:
            packed.put(self.source(bias=bias))
        return packed

    def product(self, x: Floats, *, is_tiled: bool) -> Wide:
        """Return what the kernels should make of `x`, in float64."""
        weights = self.weights
        if self.type is Type.FLOAT32:
            return x.astype(np.float64) @ weights.T
        if self.type is Type.INT8:
            return quantised(x) @ weights.T
        if self.type is Type.INT4 and not is_tiled:
            return quantised_groups(x, self.group) @ weights.T
        if self.type is Type.INT4:
            # Unpacked to bfloat16, halves away from zero.
            bits = weights.astype(np.float32).view(np.uint32).astype(np.uint64)
            weights = from_bf16(((bits + 0x8000) >> 16).astype(np.uint16)).astype(np.float64)
        return from_bf16(to_bf16(x)).astype(np.float64) @ weights.T

    def size(self, x: Floats) -> Wide:
        """Return the sum of the magnitudes of a product's terms, the measure of its rounding."""
        return np.abs(x).astype(np.float64) @ np.abs(self.weights).T + 1e-30


def run(packed: PackedLinear, x: Floats, way: Way = Way.ROWS, /, **fields: object) -> Floats:
    """Return a call's outputs; `fields` are those of `CLinearCall` that differ from nothing."""
    num_rows, width = x.shape
    out = np.full((num_rows, packed.shape.num_outputs), np.nan, np.float32)
    call = CLinearCall(
        num_rows=num_rows,
        way=way,
        x=x.ctypes.data,
        x_type=Type.FLOAT32,
        x_stride=width,
        out=out.ctypes.data,
        out_type=Type.FLOAT32,
        out_stride=out.shape[1],
    )
    for name, value in fields.items():
        setattr(call, name, value)
    packed.run(call)
    return out
