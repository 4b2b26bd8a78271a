"""A program's steps run in their order; norms of parts of rows equal float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import Tensor

from cynosure.kernels import kernels, why_none
from cynosure.kernels.linear import RowNorm, Type
from cynosure.kernels.program import CNormCall, Program, Step, argmax, struct_size

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

DTYPES = {Type.FLOAT32: torch.float32, Type.BFLOAT16: torch.bfloat16}


def norm_call(kind: RowNorm, type_: Type, x: Tensor, weight: Tensor, bias: Tensor | None) -> CNormCall:
    """A norm of every part of the rows of `x`, in place."""
    width = weight.numel()
    call = CNormCall(num_rows=x.shape[0], num_parts=x.shape[1] // width, width=width, type=type_, norm=kind)
    call.x = call.out = x.data_ptr()
    call.x_stride = call.out_stride = x.stride(0)
    call.eps, call.weight = 1e-6, weight.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    return call


def exact(kind: RowNorm, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    parts = x.double().unflatten(-1, (-1, weight.numel()))
    if kind is RowNorm.LAYER:
        parts = parts - parts.mean(-1, keepdim=True)
    parts = parts * (parts.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
    return (parts if bias is None else parts + bias).flatten(-2)


@pytest.mark.parametrize("num_rows", [0, 1, 33])
@pytest.mark.parametrize(("width", "num_parts"), [(1, 3), (15, 2), (16, 1), (17, 3), (64, 5), (130, 1)])
@pytest.mark.parametrize("kind", [RowNorm.RMS, RowNorm.LAYER])
@pytest.mark.parametrize("type_", DTYPES)
def test_norms_equal_float64(
    variant: str, type_: Type, kind: RowNorm, width: int, num_parts: int, num_rows: int
) -> None:
    torch.manual_seed(width)
    wide = torch.randn(num_rows, num_parts * width + 5).to(DTYPES[type_])
    weight, bias = torch.randn(width), torch.randn(width)
    rows, rest = wide[:, : num_parts * width], wide[:, num_parts * width :].clone()
    expected = exact(kind, rows, weight, bias)
    Program([Step(norm_call(kind, type_, rows, weight, bias))]).run()
    tolerance = 1e-4 if type_ is Type.FLOAT32 else 1e-2
    torch.testing.assert_close(rows.double(), expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(wide[:, num_parts * width :], rest)


def test_a_residual_is_added_and_the_source_left() -> None:
    x, residual, weight = torch.randn(5, 24), torch.randn(5, 24), torch.randn(24)
    before, out = x.clone(), torch.empty(5, 24)
    call = norm_call(RowNorm.RMS, Type.FLOAT32, x, weight, None)
    call.out, call.residual, call.residual_stride = out.data_ptr(), residual.data_ptr(), 24
    Program([Step(call)]).run()
    torch.testing.assert_close(
        out.double(), exact(RowNorm.RMS, x, weight, None) + residual, atol=1e-5, rtol=1e-5
    )
    assert torch.equal(x, before)


def test_steps_run_in_their_order_and_are_timed() -> None:
    """A norm by 2, then one by 3: after the second, rows have the size that it gives."""
    x, two, three = torch.randn(4, 16), torch.full((16,), 2.0), torch.full((16,), 3.0)
    program = Program(
        [Step(norm_call(RowNorm.RMS, Type.FLOAT32, x, weight, None)) for weight in (two, three)]
    )
    program.run()
    torch.testing.assert_close(x.pow(2).mean(-1).sqrt(), torch.full((4,), 3.0))
    assert program.nanoseconds == (0, 0)
    program.run(is_timed=True)
    assert all(taken > 0 for taken in program.nanoseconds)


def test_the_mirror_has_the_library_s_size() -> None:
    assert struct_size() == ctypes.sizeof(CNormCall)


@pytest.mark.parametrize("num_columns", [1, 31, 32, 33, 4097, 9000])
def test_the_largest_of_a_row_is_found(variant: str, num_columns: int) -> None:
    torch.manual_seed(num_columns)
    x = torch.randn(3, num_columns)
    x[1] = 2.0
    x[2, num_columns // 2] = float("nan")
    ids, highest = torch.empty(3, dtype=torch.int64), torch.empty(3)
    argmax(x.data_ptr(), 3, num_columns, ids.data_ptr(), highest.data_ptr())
    assert ids.tolist() == [int(x[0].argmax()), 0, num_columns // 2]
    assert highest[:2].tolist() == [float(x[0].max()), 2.0]
    assert highest[2].isnan()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("num_threads", [1, 3, 4])
@pytest.mark.parametrize("num_columns", [4095, 4096, 4097, 49_152, 50_001])
def test_a_row_alone_is_searched_by_all(variant: str, num_columns: int, num_threads: int) -> None:
    kernels().set_num_threads(num_threads)
    row = torch.randn(num_columns).clamp(max=3.0)

    def found() -> tuple[int, float]:
        ids, highest = torch.empty(1, dtype=torch.int64), torch.empty(1)
        argmax(row.data_ptr(), 1, num_columns, ids.data_ptr(), highest.data_ptr())
        return int(ids), float(highest)

    for place in (num_columns - 1, num_columns // 2, 17, 0):
        row[place] = 5.0
        assert found() == (place, 5.0), "of equals the first"
    row[num_columns - 3] = 6.0
    assert found() == (num_columns - 3, 6.0)
    row[[num_columns // 3, num_columns - 1]] = float("nan")
    assert found()[0] == num_columns // 3
    assert found()[1] != found()[1]
    row[:] = -float("inf")
    assert found() == (0, -float("inf"))
