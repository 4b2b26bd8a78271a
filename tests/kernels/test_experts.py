"""A call of experts gives what the plain loop over them gives, bit by bit; routing equals float64."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cynosure.kernels import kernels, why_none
from cynosure.kernels.experts import CExpertsCall, CRouting, PackedExperts, Router, struct_size
from cynosure.kernels.linear import Activation, RowNorm, Type, Way
from tests.kernels.packed import Floats, Matrix, run

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

HIDDEN, WIDTH = 72, 40
WAYS = {"auto": Way.AUTO, "tiles": Way.TILES, "rows": Way.ROWS}


@dataclass
class Mixture:
    """Experts of one type, and which of them rows choose."""

    type: Type
    num_experts: int = 5
    num_chosen: int = 2
    is_gated: bool = True

    def __post_init__(self) -> None:
        height = WIDTH * (2 if self.is_gated else 1)
        self.inner = [
            Matrix(self.type, height, HIDDEN).packed(is_gated=self.is_gated) for _ in range(self.num_experts)
        ]
        self.down = [Matrix(self.type, HIDDEN, WIDTH).packed() for _ in range(self.num_experts)]
        self.packed = PackedExperts(self.inner, self.down)

    def call(self, x: Floats, logits: Floats, way: Way, **fields: object) -> tuple[Floats, NDArray, Floats]:
        """Return what comes out, the experts of each row, and their weights."""
        num_rows = len(x)
        out = np.full((num_rows, HIDDEN), np.nan, np.float32)
        chosen = np.full((num_rows, self.num_chosen), -1, np.int64)
        weights = np.full((num_rows, self.num_chosen), np.nan, np.float32)
        routing = CRouting(Router.TOP, self.num_experts, self.num_chosen, 1, 1)
        call = CExpertsCall(num_rows, way, x.ctypes.data, Type.FLOAT32, HIDDEN, RowNorm.NONE)
        call.activation, call.routing, call.logits = Activation.SILU, routing, logits.ctypes.data
        call.out, call.out_stride = out.ctypes.data, HIDDEN
        call.chosen, call.weights = chosen.ctypes.data, weights.ctypes.data
        for name, value in fields.items():
            setattr(call, name, value)
        self.packed.run(call)
        return out, chosen, weights

    def loop(self, x: Floats, chosen: NDArray, weights: Floats, way: Way) -> Floats:
        """Run each expert on its rows by the plain calls, and add up in the order of choice."""
        given = np.zeros((*chosen.shape, HIDDEN), np.float32)
        for expert in range(self.num_experts):
            rows, places = np.nonzero(chosen == expert)
            if len(rows):
                inner = run(self.inner[expert], x[rows], way, activation=Activation.SILU)
                given[rows, places] = run(self.down[expert], inner, way)
        out = np.zeros((len(x), HIDDEN), np.float32)
        for place in range(self.num_chosen):
            out += weights[:, place, None] * given[:, place]
        return out


def scene(num_rows: int, num_experts: int = 5) -> tuple[Floats, Floats]:
    dice = np.random.default_rng(num_rows)
    x = dice.standard_normal((num_rows, HIDDEN), np.float32)
    logits = dice.standard_normal((num_rows, num_experts), np.float32)
    # Crowded and deserted experts.
    return x, logits + np.linspace(2, -4, num_experts, dtype=np.float32)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 15, 16, 17, 45])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("type_", Type)
def test_the_plain_loop_gives_the_same_bits(variant: str, type_: Type, way: str, num_rows: int) -> None:
    np.random.seed(num_rows)
    mixture, (x, logits) = Mixture(type_), scene(num_rows)
    out, chosen, weights = mixture.call(x, logits, WAYS[way])
    assert np.array_equal(out, mixture.loop(x, chosen, weights, WAYS[way]))
    if num_rows:
        assert np.isfinite(out).all()
        assert not np.array_equal(out, mixture.loop(x, chosen[:, ::-1].copy(), weights, WAYS[way]))


@pytest.mark.parametrize("num_rows", [511, 512, 513, 700])
def test_rows_are_taken_in_pieces(num_rows: int) -> None:
    mixture, (x, logits) = Mixture(Type.INT8), scene(num_rows)
    out, chosen, weights = mixture.call(x, logits, Way.AUTO)
    assert np.array_equal(out, mixture.loop(x, chosen, weights, Way.AUTO))


def test_a_layer_without_a_gate(variant: str) -> None:
    mixture, (x, logits) = Mixture(Type.BFLOAT16, is_gated=False), scene(20)
    out, chosen, weights = mixture.call(x, logits, Way.AUTO)
    assert np.array_equal(out, mixture.loop(x, chosen, weights, Way.AUTO))


@pytest.mark.usefixtures("threads")
def test_threads_change_no_bit() -> None:
    mixture, (x, logits) = Mixture(Type.INT4), scene(45)
    kernels().set_num_threads(1)
    alone, *_ = mixture.call(x, logits, Way.AUTO)
    for num_threads in (2, 3, 8):
        kernels().set_num_threads(num_threads)
        assert np.array_equal(mixture.call(x, logits, Way.AUTO)[0], alone)


@pytest.mark.parametrize("type_", Type)
def test_neighbours_change_no_bit_of_a_row_in_one_way(variant: str, type_: Type) -> None:
    mixture, (x, logits) = Mixture(type_), scene(33)
    together, *_ = mixture.call(x, logits, Way.TILES)
    for row in (0, 7, 32):
        alone, *_ = mixture.call(x[row : row + 1].copy(), logits[row : row + 1].copy(), Way.TILES)
        assert np.array_equal(alone[0], together[row])


def test_a_shared_layer_its_gate_and_a_residual_are_added() -> None:
    mixture, (x, logits) = Mixture(Type.FLOAT32), scene(9)
    plain, *_ = mixture.call(x, logits, Way.AUTO)
    shared, gate = np.random.default_rng(1).standard_normal((2, 9, HIDDEN), np.float32)
    residual = x.copy()
    fields = {
        "shared": shared.ctypes.data,
        "shared_stride": HIDDEN,
        "residual": residual.ctypes.data,
        "residual_stride": HIDDEN,
    }
    ours, *_ = mixture.call(x, logits, Way.AUTO, **fields)
    np.testing.assert_allclose(ours, plain + shared + residual, atol=1e-5)
    by = np.ascontiguousarray(gate[:, 0])
    ours, *_ = mixture.call(x, logits, Way.AUTO, **fields, shared_gate=by.ctypes.data)
    share = 1 / (1 + np.exp(-by.astype(np.float64)))
    np.testing.assert_allclose(ours, plain + share[:, None] * shared + residual, atol=1e-5)


def test_what_comes_out_may_take_the_place_of_what_came_in() -> None:
    mixture, (x, logits) = Mixture(Type.INT8), scene(600)
    apart, *_ = mixture.call(x, logits, Way.AUTO, residual=x.ctypes.data, residual_stride=HIDDEN)
    place = x.copy()
    at = place.ctypes.data
    mixture.call(place, logits, Way.AUTO, residual=at, residual_stride=HIDDEN, out=at)
    assert np.array_equal(place, apart)


def routed(
    kind: Router, logits: Floats, num_chosen: int, **fields: object
) -> tuple[NDArray[np.int64], Floats]:
    num_rows, num_experts = logits.shape
    mixture = Mixture(Type.FLOAT32, num_experts, num_chosen)
    routing = CRouting(kind, num_experts, num_chosen, 1, 1, 0, 1.0)
    for name, value in fields.items():
        setattr(routing, name, value)
    _, chosen, weights = mixture.call(
        np.zeros((num_rows, HIDDEN), np.float32), logits, Way.ROWS, routing=routing
    )
    return chosen, weights


@pytest.mark.parametrize("num_chosen", [1, 3, 8])
def test_routers_equal_float64(num_chosen: int) -> None:
    logits = np.random.default_rng(3).standard_normal((40, 8), np.float32) * 2
    exact = torch.from_numpy(logits).double()
    chosen, weights = routed(Router.TOP, logits, num_chosen)
    values, experts = exact.topk(num_chosen)
    assert np.array_equal(chosen, experts)
    np.testing.assert_allclose(weights, values.softmax(-1), atol=1e-6)
    shares, experts = exact.softmax(-1).topk(num_chosen)
    chosen, weights = routed(Router.SOFTMAX, logits, num_chosen)
    assert np.array_equal(chosen, experts)
    np.testing.assert_allclose(weights, shares, atol=1e-6)
    _, weights = routed(Router.SOFTMAX, logits, num_chosen, is_normalised=1)
    np.testing.assert_allclose(weights, shares / shares.sum(-1, keepdim=True), atol=1e-6)
    chosen, weights = routed(Router.GROUPS, logits, num_chosen, scale=2.5)
    shares, experts = exact.sigmoid().topk(num_chosen)
    assert np.array_equal(chosen, experts)
    np.testing.assert_allclose(weights, 2.5 * shares, atol=1e-6)


def test_groups_rank_by_their_two_best_and_corrections_weigh_nothing() -> None:
    # The best expert (4) stands in the group whose best two are the weaker sum.
    logits = np.array([[1.0, 1.2, 0.0, 0.1, 2.0, -9.0]], np.float32)
    chosen, weights = routed(Router.GROUPS, logits, 2, num_groups=3, num_chosen_groups=1)
    assert chosen[0].tolist() == [1, 0]
    np.testing.assert_allclose(weights[0], 1 / (1 + np.exp([-1.2, -1.0])), atol=1e-6)
    correction = np.array([0, 0, 0, 0, 0, 10.0], np.float32)
    chosen, weights = routed(Router.GROUPS, logits, 2, correction=correction.ctypes.data, is_normalised=1)
    assert chosen[0].tolist() == [5, 4]
    shares = 1 / (1 + np.exp([9.0, -2.0]))
    np.testing.assert_allclose(weights[0], shares / shares.sum(), atol=1e-6)


def test_of_equal_logits_the_first_win() -> None:
    chosen, _ = routed(Router.TOP, np.zeros((1, 6), np.float32), 4)
    assert chosen[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_spoils_its_row_alone(bad: float) -> None:
    mixture, (x, logits) = Mixture(Type.INT8), scene(5)
    logits[2, 4] = bad
    out, chosen, _ = mixture.call(x, logits, Way.AUTO)
    assert np.isnan(out[2]).all()
    assert np.isfinite(np.delete(out, 2, 0)).all()
    assert ((chosen >= 0) & (chosen < 5)).all()


def test_the_mirror_has_the_library_s_size() -> None:
    assert struct_size() == ctypes.sizeof(CExpertsCall)
