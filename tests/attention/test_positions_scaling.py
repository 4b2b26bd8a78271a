"""Compare rotary frequencies with transformers' own. Knows nothing of rotations."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import yarn_apply_mscale
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from cynosure.attention.positions import (
    DynamicNtk,
    Linear,
    Llama3,
    LongRope,
    NoScaling,
    Proportional,
    Rope,
    RopeScaling,
    Yarn,
)
from cynosure.core.errors import AttentionError

TRAINED, SERVED = 1024, 8192
SERIES = [(8, 10_000.0), (64, 10_000.0), (96, 1_000_000.0), (128, 500_000.0)]


def long_factors(dim: int) -> dict[str, tuple[float, ...]]:
    pairs = range(dim // 2)
    return {
        "short_factor": tuple(1 + i / 40 for i in pairs),
        "long_factor": tuple(1.5 + i for i in pairs),
    }


def config(
    dim: int, theta: float, rope_type: str, max_positions: int = SERVED, **keys: object
) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=2 * dim,
        num_attention_heads=2,
        head_dim=dim,
        max_position_embeddings=max_positions,
        rope_parameters={"rope_type": rope_type, "rope_theta": theta, **keys},
    )


def assert_equals_oracle(
    ours: RopeScaling, theirs: LlamaConfig, max_model_len: int | None = None, seq_len: int | None = None
) -> None:
    """The bar is 1e-6; we ask for the last bit but one, which at position 100,000 is what can be seen."""
    rope = theirs.rope_parameters
    expected, magnitude = ROPE_INIT_FUNCTIONS[rope["rope_type"]](theirs, "cpu", seq_len=seq_len)
    got = ours.inverse_frequencies(theirs.head_dim, rope["rope_theta"], max_model_len)
    torch.testing.assert_close(got, expected, rtol=2e-7, atol=0)
    assert ours.attention_scaling == pytest.approx(magnitude, rel=1e-12)


@pytest.mark.parametrize(("dim", "theta"), SERIES)
class TestOracle:
    @pytest.mark.parametrize("factor", [1.0, 2.5, 8.0])
    def test_linear(self, dim: int, theta: float, factor: float) -> None:
        assert_equals_oracle(Linear(factor), config(dim, theta, "linear", factor=factor))

    @pytest.mark.parametrize("length", [1, TRAINED - 1, TRAINED, TRAINED + 1, 50_000])
    def test_dynamic(self, dim: int, theta: float, length: int) -> None:
        theirs = config(dim, theta, "dynamic", max_positions=TRAINED, factor=3.0)
        assert_equals_oracle(DynamicNtk(3.0, TRAINED), theirs, max_model_len=length, seq_len=length)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"beta_fast": 16.0, "beta_slow": 2.0},
            {"beta_fast": 1.0, "beta_slow": 1.0, "truncate": False},
            {"truncate": False},
            {"attention_factor": 1.25},
            {"mscale": 0.707, "mscale_all_dim": 1.0},
            {"mscale": 1.0, "mscale_all_dim": 1.0},
            {"mscale": 0.707},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("factor", [1.0, 4.0, 40.0])
    def test_yarn(self, dim: int, theta: float, factor: float, options: dict[str, float]) -> None:
        keys = {"factor": factor, "original_max_position_embeddings": TRAINED, **options}
        assert_equals_oracle(Yarn(factor, TRAINED, **options), config(dim, theta, "yarn", **keys))

    @pytest.mark.parametrize(
        ("factor", "low", "high"), [(8.0, 1.0, 4.0), (32.0, 1.0, 4.0), (2.0, 3.0, 20.0), (16.0, 1.0, 1.0)]
    )
    def test_llama3(self, dim: int, theta: float, factor: float, low: float, high: float) -> None:
        keys = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": TRAINED}
        theirs = config(dim, theta, "llama3", factor=factor, **keys)
        assert_equals_oracle(Llama3(factor, low, high, TRAINED), theirs)

    @pytest.mark.parametrize("length", [1, TRAINED, TRAINED + 1, SERVED])
    @pytest.mark.parametrize(
        "options", [{}, {"factor": 4.0}, {"attention_factor": 1.1}, {"factor": 1.0}], ids=str
    )
    def test_longrope(self, dim: int, theta: float, length: int, options: dict[str, float]) -> None:
        ours = LongRope(**long_factors(dim), original_max=TRAINED, max_positions=SERVED, **options)
        lists = {name: list(factors) for name, factors in long_factors(dim).items()}
        keys = {"original_max_position_embeddings": TRAINED, **lists, **options}
        theirs = config(dim, theta, "longrope", **keys)
        assert_equals_oracle(ours, theirs, max_model_len=length, seq_len=length)

    @pytest.mark.parametrize("fraction", [0.25, 0.3, 1.0])
    def test_proportional(self, dim: int, theta: float, fraction: float) -> None:
        theirs = config(dim, theta, "proportional", partial_rotary_factor=fraction, factor=2.0)
        assert_equals_oracle(Proportional(fraction, 2.0), theirs)


@pytest.mark.parametrize(("theta", "trained"), [(1e4, 6), (1e4, 3), (5.0, 256)])
def test_yarn_at_the_ends_of_its_ramp(theta: float, trained: int) -> None:
    """A ramp of no width at the first channel, one that ends before it, one that ends after the last."""
    theirs = config(64, theta, "yarn", factor=4.0, original_max_position_embeddings=trained)
    assert_equals_oracle(Yarn(4.0, trained), theirs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 4.1},
        {"original_max": TRAINED * 2},
        {"beta_fast": 24.0},
        {"beta_slow": 2.0},
        {"truncate": False},
    ],
    ids=str,
)
def test_comparison_notices_a_wrong_yarn(wrong: dict[str, float]) -> None:
    theirs = config(64, 10_000.0, "yarn", factor=4.0, original_max_position_embeddings=TRAINED)
    with pytest.raises(AssertionError):
        assert_equals_oracle(replace(Yarn(4.0, TRAINED), **wrong), theirs)


def test_comparison_notices_the_wrong_side_of_longrope() -> None:
    lists = {name: list(factors) for name, factors in long_factors(64).items()}
    theirs = config(64, 1e4, "longrope", original_max_position_embeddings=TRAINED, **lists)
    ours = LongRope(**long_factors(64), original_max=TRAINED, max_positions=SERVED)
    with pytest.raises(AssertionError):
        assert_equals_oracle(ours, theirs, max_model_len=TRAINED, seq_len=TRAINED + 1)


@pytest.mark.parametrize(("dim", "theta"), SERIES)
def test_float64_follows_the_formula(dim: int, theta: float) -> None:
    expected = [theta ** (-2 * i / dim) for i in range(dim // 2)]
    got = NoScaling().inverse_frequencies(dim, theta, dtype=torch.float64)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)
    rounded = NoScaling().inverse_frequencies(dim, theta)
    torch.testing.assert_close(rounded.double(), got, rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [TRAINED, TRAINED + 1])
def test_declared_length_equals_a_model_at_that_length(length: int) -> None:
    """Phi-3 looks at the current length; we at the declared one, which is the same for the last token."""
    lists = {name: list(factors) for name, factors in long_factors(32).items()}
    theirs = Phi3Config(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=SERVED,
        original_max_position_embeddings=TRAINED,
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, **lists},
        pad_token_id=0,
    )
    positions = torch.arange(length)
    cos, sin = Phi3RotaryEmbedding(theirs)(torch.zeros(1), positions[None])
    ours = LongRope(**long_factors(32), original_max=TRAINED, max_positions=SERVED)
    table = Rope(32, 1e4, ours, max_model_len=length).tables(positions)
    torch.testing.assert_close(table.cos, cos[0, :, :16], rtol=0, atol=1e-6)
    torch.testing.assert_close(table.sin, sin[0, :, :16], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"mscale_all_dim": 0.0}, {"mscale": 0.5, "mscale_all_dim": 0.8}], ids=str
)
def test_score_scale_is_deepseeks(options: dict[str, float]) -> None:
    expected = yarn_apply_mscale({"rope_type": "yarn", "factor": 40.0, **options}, 1.0)
    assert Yarn(40.0, 4096, **options).score_scale == pytest.approx(expected, rel=1e-12)


def test_score_scale_is_above_one_where_it_acts() -> None:
    assert Yarn(40.0, 4096, mscale_all_dim=1.0).score_scale == pytest.approx((0.1 * math.log(40) + 1) ** 2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Linear(0.0), "factor above 0, got 0.0"),
        (lambda: Linear(math.nan), "got nan"),
        (lambda: DynamicNtk(-1.0, 10), "factor above 0"),
        (lambda: Yarn(2.0, 0), "original_max above 0"),
        (lambda: Yarn(2.0, 10, beta_fast=1.0, beta_slow=2.0), "beta_slow <= beta_fast"),
        (lambda: Yarn(2.0, 10, attention_factor=0.0), "attention_factor above 0"),
        (lambda: Llama3(8.0, 4.0, 1.0, 10), "low <= high"),
        (lambda: LongRope((), (1.0,), 10, 20), "short_factor above 0"),
        (lambda: LongRope((1.0,), (1.0,), 10, 20, factor=-2.0), "factor above 0"),
        (lambda: LongRope((1.0,), (1.0,), 10, 20, attention_factor=-2.0), "attention_factor above 0"),
        (lambda: Proportional(1.5), "fraction of at most 1"),
        (
            lambda: Rope(8, 1e4, LongRope((1.0,), (1.0,), 10, 20), max_model_len=5),
            "1 factors for 4 frequencies",
        ),
        (lambda: Rope(2, 1e4, DynamicNtk(2.0, 10), max_model_len=5), "at least 4"),
        (lambda: Rope(8, 1e4, DynamicNtk(2.0, 10)), "set max_model_len"),
        (lambda: Rope(2, 1e4, LongRope((1.0,), (1.0,), 10, 20)), "set max_model_len"),
    ],
)
def test_unusable_numbers_are_refused(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(AttentionError, match=says):
        make()
