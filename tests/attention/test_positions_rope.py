"""Check rotations against transformers and against their laws. Knows nothing of biases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as apply_gptj
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from cynosure.attention.grid import Grid
from cynosure.attention.positions import (
    Linear,
    Llama3,
    MRope,
    Rope,
    Rotary,
    RotaryTable,
    Yarn,
    apply,
    score_bias,
)
from cynosure.core.errors import AttentionError

YARN = Yarn(4.0, 64)


def unscaled_llama(dim: int, theta: float) -> LlamaRotaryEmbedding:
    keys = {"rope_type": "default", "rope_theta": theta}
    return LlamaRotaryEmbedding(LlamaConfig(head_dim=dim, max_position_embeddings=64, rope_parameters=keys))


def by_llama(x: Float[Tensor, "n h d"], positions: Int[Tensor, " n"], theta: float) -> Float[Tensor, "n h d"]:
    cos, sin = unscaled_llama(x.shape[-1], theta)(x, positions[None])
    q = x.transpose(0, 1)[None]
    return apply_rotary_pos_emb(q, q, cos, sin)[0][0].transpose(0, 1)


def scattered(n: int) -> Int[Tensor, " n"]:
    return torch.arange(n) * 37 % 4001


class TestLlama:
    @pytest.mark.parametrize("n", [0, 1, 2, 33])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_equals_oracle(self, n: int, dtype: torch.dtype) -> None:
        x, positions = torch.randn(n, 3, 64).to(dtype), scattered(n)
        got = Rope(64, 5e5).rotate(x, positions)
        assert got.dtype == dtype
        torch.testing.assert_close(got, by_llama(x, positions, 5e5), rtol=0, atol=1e-6)

    def test_equals_a_scaled_oracle(self) -> None:
        keys = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        keys = {"rope_type": "llama3", "rope_theta": 5e5, "original_max_position_embeddings": 64, **keys}
        theirs = LlamaRotaryEmbedding(
            LlamaConfig(head_dim=64, max_position_embeddings=512, rope_parameters=keys)
        )
        cos, sin = theirs(torch.zeros(1), torch.arange(512)[None])
        table = Rope(64, 5e5, Llama3(8.0, 1.0, 4.0, 64)).tables(torch.arange(512))
        torch.testing.assert_close(table.cos, cos[0, :, :32], rtol=0, atol=1e-6)
        torch.testing.assert_close(table.sin, sin[0, :, :32], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("mutation", ["theta", "off by one", "interleaved", "heads swapped", "reversed"])
    def test_notices_mutations(self, mutation: str) -> None:
        x, positions, rope = torch.randn(33, 3, 64), scattered(33), Rope(64, 5e5)
        mutants = {
            "theta": lambda: Rope(64, 4.9e5).rotate(x, positions),
            "off by one": lambda: rope.rotate(x, positions + 1),
            "interleaved": lambda: Rope(64, 5e5, is_interleaved=True).rotate(x, positions),
            "heads swapped": lambda: rope.rotate(x.flip(1), positions),
            "reversed": lambda: rope.rotate(x, -positions),
        }
        with pytest.raises(AssertionError):
            torch.testing.assert_close(mutants[mutation](), by_llama(x, positions, 5e5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 16, 30])
def test_partial_rotation_passes_the_rest(dim: int) -> None:
    x, positions = torch.randn(9, 2, 32), scattered(9)
    got = Rope(dim, 1e4).rotate(x, positions)
    torch.testing.assert_close(got[..., :dim], by_llama(x[..., :dim], positions, 1e4), rtol=0, atol=1e-6)
    assert torch.equal(got[..., dim:], x[..., dim:])
    assert not torch.equal(got[..., :dim], x[..., :dim])


def test_interleaved_equals_gptj() -> None:
    x, positions = torch.randn(9, 2, 32), scattered(9)
    sin, cos = create_sinusoidal_positions(4001, 32)[positions].chunk(2, dim=-1)
    expected = apply_gptj(x[None], sin[None], cos[None])[0]
    got = Rope(32, 1e4, is_interleaved=True).rotate(x, positions)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_interleaved_equals_deepseek_up_to_its_permutation() -> None:
    """DeepSeek's code also sorts pairs into halves, in queries and keys alike: scores are the same."""
    q, k, positions = torch.randn(9, 2, 32), torch.randn(9, 2, 32), scattered(9)
    cos, sin = unscaled_llama(32, 1e4)(q, positions[None])
    theirs = apply_rotary_pos_emb_interleave(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos, sin)
    rope = Rope(32, 1e4, is_interleaved=True)
    ours = rope.rotate(q, positions), rope.rotate(k, positions)
    for mine, other in zip(ours, theirs, strict=True):
        permuted = torch.cat((mine[..., 0::2], mine[..., 1::2]), dim=-1)
        torch.testing.assert_close(permuted, other[0].transpose(0, 1), rtol=0, atol=1e-6)
    scores = torch.einsum("qhd,khd->hqk", *ours)
    torch.testing.assert_close(scores, theirs[0][0] @ theirs[1][0].transpose(1, 2), rtol=1e-5, atol=1e-5)


def axes(n: int) -> Int[Tensor, "3 n"]:
    """Positions of text, then of an image's patches, as a vision model numbers them."""
    return torch.stack((torch.arange(n), torch.arange(n) // 5 + 3, torch.arange(n) % 5 + 3))


class TestMRope:
    @pytest.mark.parametrize("n", [0, 1, 23])
    def test_equals_qwen2_vl(self, n: int) -> None:
        keys = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
        theirs = Qwen2VLRotaryEmbedding(
            Qwen2VLTextConfig(hidden_size=64, num_attention_heads=2, rope_parameters=keys)
        )
        self.compare(theirs, MRope(32, 1e6, (4, 6, 6)), n)

    @pytest.mark.parametrize("sections", [(6, 5, 5), (8, 4, 4)])
    def test_equals_qwen3_vl(self, sections: tuple[int, int, int]) -> None:
        keys = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sections)}
        theirs = Qwen3VLTextRotaryEmbedding(
            Qwen3VLTextConfig(hidden_size=64, num_attention_heads=2, head_dim=32, rope_parameters=keys)
        )
        ours = MRope(32, 1e6, sections, is_interleaved_sections=True)
        self.compare(theirs, ours, 23)
        with pytest.raises(AssertionError):
            self.compare(theirs, replace(ours, is_interleaved_sections=False), 23)

    def compare(self, theirs: torch.nn.Module, ours: MRope, n: int) -> None:
        x, positions = torch.randn(n, 2, 32), axes(n)
        cos, sin = theirs(x, positions[:, None])
        q = x.transpose(0, 1)[None]
        expected = apply_rotary_pos_emb(q, q, cos, sin)[0][0].transpose(0, 1)
        torch.testing.assert_close(ours.rotate(x, positions), expected, rtol=0, atol=1e-6)

    def test_text_is_rotated_as_by_rope(self) -> None:
        x, positions = torch.randn(9, 2, 32), scattered(9)
        got = MRope(32, 1e4, (4, 6, 6), YARN).rotate(x, positions.expand(3, -1))
        assert torch.equal(got, Rope(32, 1e4, YARN).rotate(x, positions))

    def test_axes_are_told_apart(self) -> None:
        x, positions = torch.randn(23, 2, 32), axes(23)
        rope = MRope(32, 1e4, (4, 6, 6))
        assert not torch.allclose(rope.rotate(x, positions), rope.rotate(x, positions[[0, 2, 1]]))

    @pytest.mark.parametrize("is_interleaved", [False, True])
    def test_sections_must_share_out_the_frequencies(self, is_interleaved: bool) -> None:
        for sections in ((4, 6, 5), (4, 6, 7), (4, 0, 0), ()):
            with pytest.raises(AttentionError, match="make them sum"):
                MRope(32, 1e4, sections, is_interleaved_sections=is_interleaved)

    def test_axes_that_take_turns_cannot_own_most_of_them(self) -> None:
        assert MRope(32, 1e4, (2, 2, 12)).axis_of_pair().count(2) == 12
        with pytest.raises(AttentionError, match="make them sum"):
            MRope(32, 1e4, (2, 2, 12), is_interleaved_sections=True)

    def test_positions_need_a_row_for_each_axis(self) -> None:
        with pytest.raises(AttentionError, match="2 axes but sections 3"):
            MRope(32, 1e4, (4, 6, 6)).tables(axes(4)[:2])


ROTARIES = [
    Rope(8, 1e4),
    Rope(6, 1e4, Linear(3.0), is_interleaved=True),
    Rope(8, 5e5, YARN),
    MRope(8, 1e4, (1, 1, 2)),
    MRope(8, 1e4, (2, 1, 1), YARN, is_interleaved_sections=True),
]
places = st.integers(-20_000, 20_000)


def spread(rope: Rotary, places: list[int]) -> Int[Tensor, "*axes n"]:
    """Put `places` on every axis that `rope` has, differently."""
    at = torch.tensor(places, dtype=torch.int64)
    return torch.stack((at, at * 2 + 1, at // 3)) if isinstance(rope, MRope) else at


def sums(rope: Rotary, p: list[int], delta: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions, deltas and their sums, on every axis."""
    at, by = spread(rope, p), spread(rope, delta)
    return at, by, at + by


@pytest.mark.parametrize("rope", ROTARIES, ids=str)
class TestLaws:
    @given(p=st.lists(places, max_size=5), seed=st.integers(0, 99))
    def test_norms_grow_by_the_magnitude_alone(self, rope: Rope | MRope, p: list[int], seed: int) -> None:
        x = torch.randn(len(p), 2, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        part = slice(0, rope.dim)
        got = rope.rotate(x, spread(rope, p))[..., part].norm(dim=-1)
        expected = x[..., part].norm(dim=-1) * rope.scaling.attention_scaling
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)

    @given(p=st.lists(st.tuples(places, places), max_size=5))
    def test_a_shift_is_a_rotation_to_the_sum(self, rope: Rope | MRope, p: list[tuple[int, int]]) -> None:
        at, by, moved = sums(rope, [a for a, _ in p], [b for _, b in p])
        x = torch.ones(len(p), 2, 8, dtype=torch.float64)
        got = rope.shift(rope.rotate(x, at), by)
        torch.testing.assert_close(got, rope.rotate(x, moved), rtol=0, atol=1e-9)

    @given(p=st.lists(places, max_size=5))
    def test_unrotate_undoes(self, rope: Rope | MRope, p: list[int]) -> None:
        x = torch.randn(len(p), 2, 8, dtype=torch.float64)
        got = rope.unrotate(rope.rotate(x, spread(rope, p)), spread(rope, p))
        torch.testing.assert_close(got, x, rtol=0, atol=1e-10)

    @given(p=places, q=places, delta=places)
    def test_scores_depend_on_distances_alone(self, rope: Rope | MRope, p: int, q: int, delta: int) -> None:
        at, _, moved = sums(rope, [p, q], [delta, delta])
        x = torch.randn(2, 2, 8, dtype=torch.float64)
        near, far = rope.rotate(x, at), rope.rotate(x, moved)
        torch.testing.assert_close((near[0] * near[1]).sum(-1), (far[0] * far[1]).sum(-1), rtol=0, atol=1e-8)

    def test_position_zero_only_scales(self, rope: Rope | MRope) -> None:
        x = torch.randn(3, 2, 8)
        got = rope.rotate(x, torch.zeros_like(spread(rope, [0, 0, 0])))[..., : rope.dim]
        assert torch.equal(got, x[..., : rope.dim] * rope.scaling.attention_scaling)

    def test_takes_part_in_no_bias(self, rope: Rope | MRope) -> None:
        assert not rope.adds_bias
        assert score_bias(rope, Grid(torch.arange(2), torch.arange(2), 2)) is None


def test_a_table_serves_every_layer() -> None:
    rope, positions = Rope(8, 1e4), scattered(7)
    table = rope.tables(positions, torch.bfloat16)
    for num_heads in (1, 4):
        x = torch.randn(7, num_heads, 8).bfloat16()
        assert torch.equal(apply(x, table), rope.rotate(x, positions))


def test_rotating_scaled_keys_twice_is_no_shift() -> None:
    """Where a scaling has a magnitude, moving by `rotate` would apply it twice; `shift` does not."""
    x, rope = torch.ones(1, 1, 8), Rope(8, 1e4, YARN)
    there, by = rope.rotate(x, torch.tensor([5])), torch.tensor([3])
    assert not torch.allclose(rope.rotate(there, by), rope.rotate(x, torch.tensor([8])))
    torch.testing.assert_close(rope.shift(there, by), rope.rotate(x, torch.tensor([8])))


def test_specs_can_be_written_where_weights_are_not_yet_real() -> None:
    with torch.device("meta"):
        rope = Rope(8, 1e4, YARN)
        assert rope.inverse_frequencies().device.type == "cpu"
    assert rope.tables(torch.arange(3)).cos.device.type == "cpu"


def test_kinds_are_values() -> None:
    assert Rope(8, 1e4, Yarn(4.0, 64)) == Rope(8, 1e4, Yarn(4.0, 64))
    assert len({Rope(8, 1e4), Rope(8, 1e4), Rope(8, 1e4, YARN), MRope(8, 1e4, (1, 1, 2))}) == 3


def test_unusable_kinds_and_tables_are_refused() -> None:
    table = Rope(8, 1e4).tables(torch.arange(3))
    cases = {
        "even number": lambda: Rope(7, 1e4),
        "of at least 2": lambda: Rope(0, 1e4),
        "over 1, got theta 1.0": lambda: Rope(8, 1.0),
        "over 1, got theta inf": lambda: MRope(8, float("inf"), (1, 1, 2)),
        "3 rows in torch.float32 does not fit 4 tokens": lambda: apply(torch.zeros(4, 1, 8), table),
        "tokens in torch.bfloat16": lambda: apply(torch.zeros(3, 1, 8).bfloat16(), table),
        "8 channels of a head of 4": lambda: apply(torch.zeros(3, 1, 4), table),
    }
    for says, call in cases.items():
        with pytest.raises(AttentionError, match=says):
            call()
    assert isinstance(table, RotaryTable)
