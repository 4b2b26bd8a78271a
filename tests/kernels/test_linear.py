"""Native linear layers equal float64 in every variant, format and way, at the edges of their blocks."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from cynosure.kernels import kernels, linear
from cynosure.kernels.linear import Activation, LinearShape, PackedLinear, RowNorm, Type, Way, has_tiles
from tests.kernels.packed import Floats, Matrix, Wide, from_bf16, quantised, run, to_bf16

#: Rows and columns around blocks of 16 outputs, units of 2, 4 and 8 columns, and the padding to 64.
SHAPES = [(1, 1), (16, 64), (17, 63), (15, 65), (33, 128), (48, 100), (40, 577)]
ROWS = [1, 2, 3, 4, 5, 15, 16, 17, 32, 33]
TOLERANCE = 2e-6  # of the sum of magnitudes, for sums of float32 in any order


def random(rows: int, columns: int) -> Floats:
    """Return activations with a few that stand out, as real ones do."""
    x = np.random.randn(rows, columns).astype(np.float32)
    return x * np.where(np.random.rand(columns) < 0.03, 20, 1).astype(np.float32)


def ways(of: Type) -> list[Way]:
    if not has_tiles(of):
        return [Way.ROWS]
    return [Way.ROWS, Way.TILES, *([Way.GROUPS] if of is Type.INT4 else [])]


def gap(ours: Floats, exact: Wide, size: Wide) -> float:
    return float((np.abs(ours - exact) / size).max())


@pytest.mark.parametrize("kind", Type)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_equals_float64(variant: str, kind: Type, shape: tuple[int, int]) -> None:
    matrix = Matrix(kind, *shape)
    bias = np.random.randn(shape[0]).astype(np.float32)
    packed = matrix.packed(bias)
    for way in ways(kind):
        for rows in ROWS:
            x = random(rows, shape[1])
            exact = matrix.product(x, is_tiled=way is Way.TILES) + bias
            size = matrix.size(x) + np.abs(bias)
            assert gap(run(packed, x, way), exact, size) < TOLERANCE, (way, rows)


@pytest.mark.parametrize("kind", Type)
def test_a_wide_matrix_passes_in_chunks(variant: str, kind: Type) -> None:
    """More columns than a chunk of tiles, more rows than two tiles."""
    matrix, x = Matrix(kind, 35, 1600), random(70, 1600)
    for way in ways(kind):
        exact = matrix.product(x, is_tiled=way is Way.TILES)
        assert gap(run(matrix.packed(), x, way), exact, matrix.size(x)) < TOLERANCE


@pytest.mark.parametrize("kind", Type)
def test_ragged_shapes(variant: str, kind: Type) -> None:
    for _ in range(12):
        rows, columns, num_rows = (int(n) for n in np.random.randint(1, [90, 300, 40]))
        matrix, x = Matrix(kind, rows, columns), random(num_rows, columns)
        for way in ways(kind):
            exact = matrix.product(x, is_tiled=way is Way.TILES)
            assert gap(run(matrix.packed(), x, way), exact, matrix.size(x)) < TOLERANCE, (
                rows,
                columns,
                num_rows,
            )


def test_a_wrong_code_is_seen(variant: str) -> None:
    """The positive control: one step of one code of 64 is far over the tolerance."""
    matrix, x = Matrix(Type.INT8, 16, 64), random(2, 64)
    exact = matrix.product(x, is_tiled=False)
    matrix.values[3, 60] ^= 1
    assert gap(run(matrix.packed(), x), exact, matrix.size(x)) > 10 * TOLERANCE


@pytest.mark.parametrize("kind", Type)
def test_a_row_gets_the_same_bits_in_any_company(variant: str, kind: Type) -> None:
    matrix, x = Matrix(kind, 50, 300), random(40, 300)
    packed = matrix.packed()
    for way in ways(kind):
        together = run(packed, x, way)
        for row in (0, 15, 16, 33, 39):
            assert np.array_equal(run(packed, x[row : row + 1], way)[0], together[row]), (way, row)


def test_int8_gives_the_same_bits_both_ways(variant: str) -> None:
    matrix, x = Matrix(Type.INT8, 50, 300), random(5, 300)
    packed = matrix.packed()
    assert all(np.array_equal(run(packed, x), run(packed, x, way)) for way in Way)


@pytest.mark.parametrize("num_threads", range(1, 9))
def test_threads_change_no_bit(threads: None, num_threads: int) -> None:
    matrix, x = Matrix(Type.BFLOAT16, 200, 130), random(40, 130)
    packed = matrix.packed()
    kernels().set_num_threads(1)
    alone = [run(packed, x[:rows]) for rows in (1, 40)]
    kernels().set_num_threads(num_threads)
    for _ in range(20):
        assert all(np.array_equal(run(packed, x[: len(out)]), out) for out in alone)


@pytest.mark.parametrize("kind", [Type.FLOAT32, Type.INT8])
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("is_gated", [False, True])
def test_activations_and_gates(variant: str, kind: Type, activation: Activation, is_gated: bool) -> None:
    matrix, x = Matrix(kind, 38, 64), random(20, 64)
    bias = np.random.randn(38).astype(np.float32)
    packed = matrix.packed(bias, is_gated=is_gated)
    before = matrix.product(x, is_tiled=False) + bias
    if is_gated:
        exact = reference(activation, before[:, :19]) * before[:, 19:]
    else:
        exact = reference(activation, before)
    for way in ways(kind):
        ours = run(packed, x, way, activation=activation)
        assert np.allclose(ours, exact, rtol=1e-4, atol=2e-5 * np.abs(exact).max()), way


def reference(activation: Activation, x: Wide) -> Wide:
    erf = np.vectorize(math.erf)
    if activation is Activation.SILU:
        return x / (1 + np.exp(-x))
    if activation is Activation.GELU:
        return x / 2 * (1 + erf(x / 2**0.5))
    if activation is Activation.GELU_TANH:
        return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return np.maximum(x, 0) if activation is Activation.RELU else x


@pytest.mark.parametrize("norm", [RowNorm.RMS, RowNorm.LAYER])
@pytest.mark.parametrize("width", [1, 15, 64, 70])
def test_norms_before_a_product(variant: str, norm: RowNorm, width: int) -> None:
    matrix, x = Matrix(Type.FLOAT32, 20, width), random(5, width) + np.float32(3)
    scale, shift = np.random.randn(2, width).astype(np.float32)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True) if norm is RowNorm.LAYER else wide
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift
    ours = run(
        matrix.packed(),
        x,
        norm=norm,
        norm_eps=1e-5,
        norm_weight=scale.ctypes.data,
        norm_bias=shift.ctypes.data,
    )
    size = matrix.size(normal.astype(np.float32)) + 1e-3
    assert gap(ours, normal @ matrix.weights.T, size) < 20 * TOLERANCE


def test_bfloat16_comes_in_and_goes_out_and_residuals_are_added(variant: str) -> None:
    """Rows are slices of wider ones, and the residual is the output itself."""
    matrix, wide = Matrix(Type.FLOAT32, 37, 60), to_bf16(random(6, 90))
    x, stream = wide[:, 10:70], to_bf16(random(6, 40))
    exact = from_bf16(x).astype(np.float64) @ matrix.weights.T + from_bf16(stream)[:, :37]
    run(
        matrix.packed(),
        np.zeros((6, 60), np.float32),
        x=x.ctypes.data,
        x_type=Type.BFLOAT16,
        x_stride=90,
        out=stream.ctypes.data,
        out_type=Type.BFLOAT16,
        out_stride=40,
        residual=stream.ctypes.data,
        residual_stride=40,
    )
    ours = from_bf16(stream)[:, :37]
    assert np.allclose(ours, exact, rtol=2**-8, atol=2e-2)
    assert np.array_equal(to_bf16(ours), stream[:, :37])


@pytest.mark.parametrize("kind", Type)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_says_so_and_spoils_no_other(variant: str, kind: Type, bad: float) -> None:
    matrix, x = Matrix(kind, 20, 70), random(6, 70)
    packed = matrix.packed()
    for way in ways(kind):
        clean = run(packed, x, way)
        spoilt = x.copy()
        spoilt[2, 69] = bad
        ours = run(packed, spoilt, way)
        others = [0, 1, 3, 4, 5]
        assert np.array_equal(ours[others], clean[others])
        assert not np.isfinite(ours[2]).any()


@pytest.mark.parametrize("kind", Type)
def test_tiny_and_huge_numbers(variant: str, kind: Type) -> None:
    """Denormals may count as zero; what float32 holds must not overflow on the way."""
    matrix = Matrix(kind, 20, 70)
    packed = matrix.packed()
    for way in ways(kind):
        tiny = run(packed, np.full((4, 70), 1e-41, np.float32), way)
        assert np.abs(tiny).max() < 1e-36
        huge = run(packed, np.full((4, 70), 1e35, np.float32), way)
        assert np.isfinite(huge).all()
        assert not run(packed, np.zeros((4, 70), np.float32), way).any()


@pytest.mark.parametrize("kind", Type)
def test_parts_may_be_put_one_by_one_and_read_back(threads: None, kind: Type) -> None:
    matrix = Matrix(kind, 45, 96)
    packed = PackedLinear(LinearShape(kind, 45, 96, 32 if kind is Type.INT4 else 0))
    for first, last in [(0, 7), (7, 40), (40, 45)]:
        packed.put(matrix.source(first, last), first)
    x = random(3, 96)
    assert np.array_equal(run(packed, x), run(matrix.packed(), x))
    ids, rows = np.array([44, 0, 7]), np.empty((3, 96), np.float32)
    packed.look_up(ids.ctypes.data, 3, rows.ctypes.data)
    assert np.allclose(rows, matrix.weights[ids], rtol=1e-6, atol=0)


def test_no_rows_are_no_work(threads: None) -> None:
    assert run(Matrix(Type.INT8, 16, 64).packed(), np.zeros((0, 64), np.float32)).shape == (0, 16)


def test_quantising_a_row_loses_half_a_step_at_most() -> None:
    """Of the reference itself: without it, both could be wrong alike."""
    x = random(4, 200)
    assert (np.abs(quantised(x) - x) <= np.abs(x).max(-1, keepdims=True) / 254 * 1.0001).all()


@pytest.mark.parametrize(
    ("struct", "mirror"), [("CynLinear", linear.CLinear), ("CynLinearCall", linear.CLinearCall)]
)
def test_structs_mirror_the_header(struct: str, mirror: type) -> None:
    header = (Path(linear.__file__).parent / "cpu" / "linear_api.h").read_text()
    found = re.search(rf"struct {struct} {{(.*?)}};", header, re.DOTALL)
    assert found is not None
    fields = re.sub(r"//.*", "", found[1])
    assert re.findall(r"(\w+);", fields) == [name for name, _ in mirror._fields_]
