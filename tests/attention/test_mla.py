"""Both readings of latent rows are one attention, and the absorbed one copies nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    DenseSource,
    PagedSource,
    Score,
    attend,
)
from cynosure.attention.masks import Causal, Mask, Window
from cynosure.attention.mla import (
    ExpandedSource,
    MlaReading,
    MlaWidths,
    absorb,
    absorbed_source,
    expand,
    project,
)
from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class Layer:
    widths: MlaWidths
    w_k: Float[Tensor, "h nope latent"]
    w_v: Float[Tensor, "h dv latent"]

    @classmethod
    def random(cls, widths: MlaWidths, dtype: torch.dtype) -> Layer:
        shape = widths.num_heads, widths.latent_dim
        scale = widths.latent_dim**-0.5
        w_k = torch.randn(shape[0], widths.nope_dim, shape[1], dtype=dtype) * scale
        return cls(widths, w_k, torch.randn(shape[0], widths.v_head_dim, shape[1], dtype=dtype) * scale)

    def spec(self, reading: MlaReading, mask: Mask) -> AttentionSpec:
        # Peaked, so that a wrong score shows.
        score = Score(2.0 * self.widths.head_dim**-0.5)
        return AttentionSpec(self.widths.heads(reading), mask, score=score)

    def queries(self, n: int) -> tuple[Float[Tensor, "n h nope"], Float[Tensor, "n h rope"]]:
        nope, rope = self.widths.nope_dim, self.widths.rope_dim
        q = torch.randn(n, self.widths.num_heads, nope + rope, dtype=self.w_k.dtype)
        return q[..., :nope], q[..., nope:]


def expanded(
    layer: Layer, q: tuple[Tensor, Tensor], rows: Tensor, plan: AttentionPlan, mask: Mask
) -> AttentionState:
    k, v = expand(rows[:, 0], layer.w_k, layer.w_v)
    return attend(layer.spec(MlaReading.EXPANDED, mask), torch.cat(q, -1), [DenseSource(k, v)], plan)


def absorbed(
    layer: Layer, q: tuple[Tensor, Tensor], rows: Tensor, plan: AttentionPlan, mask: Mask
) -> AttentionState:
    source = absorbed_source(rows, layer.widths.latent_dim)
    return attend(layer.spec(MlaReading.ABSORBED, mask), absorb(*q, layer.w_k), [source], plan)


lengths = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 150)), min_size=1, max_size=3)
widths = st.builds(MlaWidths, *(st.integers(1, n) for n in (4, 6, 6, 7, 9)))


@settings(max_examples=40)
@given(widths, lengths, st.sampled_from([Causal(), Causal() & Window(7)]), st.booleans())
def test_absorbed_is_expanded(
    widths: MlaWidths, lengths: list[tuple[int, int]], mask: Mask, is_double: bool
) -> None:
    dtype, tolerance = (torch.float64, 1e-10) if is_double else (torch.float32, 1e-5)
    layer = Layer.random(widths, dtype)
    new, total = [new for new, _ in lengths], [new + past for new, past in lengths]
    plan = AttentionPlan.of_lengths(new, total)
    q, rows = layer.queries(sum(new)), torch.randn(sum(total), 1, widths.row_dim, dtype=dtype)
    one, other = expanded(layer, q, rows, plan, mask), absorbed(layer, q, rows, plan, mask)
    assert (project(other.out, layer.w_v) - one.out).abs().max() <= tolerance * one.out.abs().max().clamp(
        min=1
    )
    assert (other.lse - one.lse).abs().max() <= tolerance * one.lse.abs().max().clamp(min=1)


WIDE = MlaWidths(num_heads=3, nope_dim=6, rope_dim=4, v_head_dim=5, latent_dim=8)


def test_the_law_can_fail() -> None:
    """Swapped heads, or a scale by the row's width, break it."""
    layer, plan = Layer.random(WIDE, torch.float64), AttentionPlan.of_lengths([9])
    q, rows = layer.queries(9), torch.randn(9, 1, WIDE.row_dim, dtype=torch.float64)
    right = expanded(layer, q, rows, plan, Causal()).out
    swapped = project(absorbed(layer, q, rows, plan, Causal()).out, layer.w_v.roll(1, 0))
    assert (swapped - right).abs().max() > 1e-2
    spec = AttentionSpec(WIDE.heads(MlaReading.ABSORBED))
    wrong = attend(spec, absorb(*q, layer.w_k), [absorbed_source(rows, WIDE.latent_dim)], plan)
    assert (project(wrong.out, layer.w_v) - right).abs().max() > 1e-2


def test_widths_of_keys_and_values_differ() -> None:
    assert WIDE.heads(MlaReading.EXPANDED).v_head_dim == 5 != WIDE.heads(MlaReading.EXPANDED).head_dim == 10
    heads = WIDE.heads(MlaReading.ABSORBED)
    assert (heads.num_kv_heads, heads.head_dim, heads.v_head_dim, heads.group_size) == (1, 12, 8, 3)


def test_absorbed_values_are_the_keys_memory() -> None:
    rows = torch.randn(7, 1, WIDE.row_dim)
    source = absorbed_source(rows, WIDE.latent_dim)
    assert source.k.data_ptr() == source.v.data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("backend", ["auto", "tiled", "reference"])
@pytest.mark.parametrize("is_paged", [False, True])
def test_rows_expand_as_they_are_read(backend: str, is_paged: bool) -> None:
    layer = Layer.random(WIDE, torch.float64)
    plan = AttentionPlan.of_lengths([5, 2], [150, 40])
    q, rows = layer.queries(7), torch.randn(190, 1, WIDE.row_dim, dtype=torch.float64)
    right = expanded(layer, q, rows, plan, Causal())
    stored = _paged(rows, plan) if is_paged else (DenseSource(rows, rows[..., :0]), plan)
    source = ExpandedSource(stored[0], layer.w_k, layer.w_v)
    spec = layer.spec(MlaReading.EXPANDED, Causal())
    got = attend(spec, torch.cat(q, -1), [source], stored[1], backend=backend)
    torch.testing.assert_close(got.out, right.out)
    torch.testing.assert_close(got.lse, right.lse)


def _paged(rows: Tensor, plan: AttentionPlan) -> tuple[PagedSource, AttentionPlan]:
    """Put both sequences' rows into shuffled pages of 32."""
    order, pages = torch.randperm(7), torch.full((7, 1, 32, WIDE.row_dim), float("nan"), dtype=rows.dtype)
    table = torch.zeros(2, 5, dtype=torch.int64)
    for seq, (first, count) in enumerate([(0, 5), (5, 2)]):
        own = rows[plan.keys[0].offsets[seq] : plan.keys[0].offsets[seq + 1]]
        for index, chunk in enumerate(own.split(32)):
            page = order[first + index]
            pages[page, :, : len(chunk)] = chunk.transpose(0, 1)
            table[seq, index] = page
        assert index + 1 == count
    keys = plan.keys[0]
    paged = type(keys)(keys.cu_seqlens, keys.positions, block_table=table)
    return PagedSource(pages, pages[..., :0]), plan.with_keys(paged)


def test_what_does_not_fit_is_refused() -> None:
    rows = torch.randn(4, 1, 12)
    layer = Layer.random(WIDE, torch.float32)
    for wrong in (rows[..., :8], rows.expand(4, 3, 12)):
        with pytest.raises(AttentionError, match="wider than the latent"):
            ExpandedSource(DenseSource(wrong, wrong), layer.w_k, layer.w_v)
    with pytest.raises(AttentionError, match="at least 1"):
        MlaWidths(4, 0, 8, 8, 16)
    source = ExpandedSource(DenseSource(rows, rows), layer.w_k, layer.w_v)
    with pytest.raises(AttentionError, match="rows 0:5"):
        source.check(AttentionPlan.of_lengths([5]).keys[0])
