"""An encoder's pass equals float64 within its rounding; company and threads change no bit."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from cynosure.kernels import kernels
from cynosure.kernels.encoder import (
    CEncoder,
    CEncoderLayer,
    CEncoderPass,
    PooledRows,
    struct_size,
    why_no_encoders,
)
from cynosure.kernels.linear import Activation, Type
from tests.kernels.encoders import BFLOAT16_ROUNDING, Shape, TinyEncoder, texts_of

pytestmark = pytest.mark.skipif(bool(why_no_encoders()), reason=why_no_encoders() or "encoders run here")

EDGES = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65]
SHAPES = {
    "plain": Shape(),
    "wide": Shape(hidden=96, num_heads=3, inner=160),
    "heads-of-64": Shape(hidden=128, head_dim=64, inner=1088),
    "heads-of-96": Shape(num_heads=1, head_dim=96),
    "heads-of-128": Shape(num_heads=1, head_dim=128),
    "tanh": Shape(activation=Activation.GELU_TANH),
    "relu": Shape(activation=Activation.RELU),
    "silu": Shape(activation=Activation.SILU),
    "distances": Shape(has_distances=True),
    "pre-norm": Shape(is_pre_norm=True, is_gated=True, has_rotation=True, windows=(0, 5)),
    "windows": Shape(windows=(1, 33)),
    "codes": Shape(hidden=96, num_heads=3, inner=160, type=Type.INT8),
    "codes-gated": Shape(is_pre_norm=True, is_gated=True, has_rotation=True, type=Type.INT8),
}


@pytest.fixture(autouse=True)
def seed(threads: None) -> None:
    np.random.seed(3)


def gap(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def test_the_structs_are_the_librarys() -> None:
    assert struct_size() == sum(map(ctypes.sizeof, (CEncoder, CEncoderLayer, CEncoderPass)))


@pytest.mark.parametrize("name", SHAPES)
def test_rows_equal_float64(name: str) -> None:
    encoder, texts = TinyEncoder(SHAPES[name]), texts_of(EDGES)
    found = np.split(encoder.run(texts), np.cumsum(EDGES)[:-1])
    for text, rows in zip(texts, found, strict=True):
        assert gap(rows, encoder.exact(text)) < encoder.rounding(text)


@pytest.mark.parametrize("length", [255, 256, 257, 512, 600])
@pytest.mark.parametrize("name", ["plain", "pre-norm", "windows", "distances"])
def test_long_texts_equal_float64(name: str, length: int) -> None:
    encoder, texts = TinyEncoder(SHAPES[name]), texts_of([length])
    assert (
        gap(encoder.run(texts, has_types=False), encoder.exact(texts[0], has_types=False)) < BFLOAT16_ROUNDING
    )


@pytest.mark.parametrize(
    "changed", [{"has_distances": True}, {"has_rotation": True}, {"windows": (0, 32)}, {"windows": (33, 0)}]
)
def test_the_bar_notices_what_a_layer_adds(changed: dict[str, object]) -> None:
    """The positive control: an encoder with the same numbers that lacks one term is far off."""
    whole = TinyEncoder(Shape(windows=(0, 33)))
    np.random.seed(3)
    other = TinyEncoder(replace(whole.shape, **changed))
    texts = texts_of([65])
    assert gap(whole.run(texts), whole.exact(texts[0])) < BFLOAT16_ROUNDING
    assert gap(other.run(texts), whole.exact(texts[0])) > 0.02


@pytest.mark.parametrize("name", ["plain", "pre-norm", "codes", "distances"])
def test_company_and_threads_change_no_bit(name: str) -> None:
    """Few texts share products, many go bundle by bundle: one thread's row is another's."""
    encoder = TinyEncoder(SHAPES[name])
    texts = texts_of([*EDGES, 300, *[40] * 20])
    alone = np.concatenate([encoder.run([text]) for text in texts])
    for num_threads in (1, 2, 3, 4):
        kernels().set_num_threads(num_threads)
        assert np.array_equal(encoder.run(texts), alone)
        assert np.array_equal(encoder.run(texts[::-1])[-1], alone[0])


def test_vectors_of_texts() -> None:
    encoder, texts = TinyEncoder(SHAPES["plain"]), texts_of([7, 1, 40])
    parts = np.split(encoder.run(texts), np.cumsum([7, 1]))
    assert np.array_equal(encoder.run(texts, PooledRows.FIRST), [part[0] for part in parts])
    assert np.array_equal(encoder.run(texts, PooledRows.LAST), [part[-1] for part in parts])
    np.testing.assert_allclose(
        encoder.run(texts, PooledRows.MEAN), [part.mean(0) for part in parts], atol=1e-6
    )


def test_no_texts_are_nothing() -> None:
    assert TinyEncoder(SHAPES["plain"]).run([]).shape == (0, 64)


@pytest.mark.parametrize("name", ["plain", "codes"])
def test_one_text_s_nan_stays_its_own(name: str) -> None:
    encoder, texts = TinyEncoder(SHAPES[name]), texts_of([16, 20, 33])
    texts[0][:], texts[2][:] = 1, 1
    texts[1][:] = 2
    before = encoder.run(texts)
    encoder.tokens[2] = 0x7FC0
    after = encoder.run(texts)
    assert np.isnan(after[16:36]).all()
    assert np.array_equal(after[:16], before[:16])
    assert np.array_equal(after[36:], before[36:])


@pytest.mark.parametrize("seed_of", range(6))
def test_ragged_passes(seed_of: int) -> None:
    """Fuzzed shapes; under the sanitizers a step outside is seen."""
    dice = np.random.default_rng(seed_of)
    shape = Shape(
        hidden=32 * int(dice.integers(1, 5)),
        num_heads=int(dice.integers(1, 4)),
        head_dim=32 * int(dice.integers(1, 5)),
        inner=32 * int(dice.integers(1, 40)),
        type=Type.INT8 if seed_of % 3 == 2 else Type.BFLOAT16,
        is_pre_norm=bool(dice.integers(2)),
        is_gated=bool(dice.integers(2)),
        has_rotation=bool(dice.integers(2)),
        windows=(0, int(dice.integers(0, 40))),
    )
    encoder = TinyEncoder(shape)
    texts = texts_of(dice.integers(1, 90, dice.integers(1, 12)).tolist())
    kernels().set_num_threads(1 + seed_of % 4)
    found = np.split(encoder.run(texts), np.cumsum([len(text) for text in texts])[:-1])
    for text, rows in zip(texts, found, strict=True):
        assert gap(rows, encoder.exact(text)) < encoder.rounding(text)
