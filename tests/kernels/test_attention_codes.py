"""Hold attention over int8 codes to what integers of weights could lose: tails, scales, cut tiles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, Heads, PagedSource, PageScales, attend
from cynosure.attention.masks import Causal
from cynosure.cache.paged import encode
from cynosure.kernels import why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

BLOCK, WIDTH = 32, 64


def paged(k: Tensor, v: Tensor, num_queries: int = 1) -> tuple[PagedSource, AttentionPlan]:
    """Return keys and values in pages of codes, and a plan whose queries are the last."""
    num_keys = k.shape[0]
    blocks = -(-num_keys // BLOCK)
    parts = []
    for x in (k, v):
        codes, scales = encode(x)
        pages = torch.zeros(blocks * BLOCK, *codes.shape[1:], dtype=torch.int8)
        by = torch.ones(blocks * BLOCK, codes.shape[1])
        pages[:num_keys], by[:num_keys] = codes, scales
        parts.append(
            (
                pages.reshape(blocks, BLOCK, *codes.shape[1:]).transpose(1, 2).contiguous(),
                by.reshape(blocks, BLOCK, -1).transpose(1, 2).contiguous(),
            )
        )
    (k_pages, k_scales), (v_pages, v_scales) = parts
    plan = AttentionPlan.of_lengths([num_queries], [num_keys])
    plan = plan.with_keys(replace(plan.keys[0], block_table=torch.arange(blocks)[None]))
    return PagedSource(k_pages, v_pages, PageScales(k_scales, v_scales), torch.bfloat16), plan


def both(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attend on the kernels, and by the reference over the same codes."""
    source, plan = paged(k, v, q.shape[0])
    spec = AttentionSpec(Heads.of(q.shape[1], k.shape[2], k.shape[1]), Causal())
    ours = attend(spec, q, [source], plan, backend="native").out
    exact = attend(spec, q.float(), [replace(source, read_dtype=torch.float32)], plan, backend="reference")
    return ours, exact.out


@pytest.mark.parametrize("group", [1, 7, 16, 20])
def test_a_long_tail_of_small_weights_counts(variant: str, group: int) -> None:
    """One key has half of the mass, 20,000 share the rest: each far below a 16-bit step of the largest."""
    assert variant
    num_keys = 20_000
    k, v = torch.zeros(num_keys, 1, WIDTH), torch.full((num_keys, 1, WIDTH), -1.0)
    k[5, 0, 0], v[5] = 8.0 * math.log(num_keys), 1.0
    q = torch.zeros(1, group, WIDTH, dtype=torch.bfloat16)
    q[..., 0] = 1.0
    ours, exact = both(q, k, v)
    assert float(exact.abs().max()) < 0.05
    torch.testing.assert_close(ours, exact, atol=1e-2, rtol=0)


@pytest.mark.parametrize("num_keys", [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
def test_values_of_very_different_scales_equal_the_reference(variant: str, num_keys: int) -> None:
    assert variant
    random = torch.Generator().manual_seed(num_keys)
    k, v = torch.randn(2, num_keys, 2, WIDTH, generator=random)
    v *= torch.logspace(-3, 2, num_keys)[:, None, None]
    q = torch.randn(1, 6, WIDTH, generator=random).bfloat16()
    ours, exact = both(q, k, v)
    torch.testing.assert_close(ours, exact, atol=2e-3 * float(exact.abs().max()), rtol=5e-3)


def test_a_value_that_is_no_number_reaches_the_rows_of_its_head(variant: str) -> None:
    assert variant
    k, v = torch.randn(2, 70, 2, WIDTH)
    v[40, 1, 3] = math.nan
    ours, _ = both(torch.randn(1, 4, WIDTH).bfloat16(), k, v)
    assert ours[0, 2:].isnan().all()
    assert ours[0, :2].isfinite().all()


@pytest.mark.parametrize("num_queries", [15, 16, 17, 63, 64, 65, 200])
@pytest.mark.parametrize("width", [24, 64, 80])
def test_prompts_equal_the_reference(variant: str, num_queries: int, width: int) -> None:
    """Below 64 rows of a K/V head codes are read as they are, from there on widened; both are as exact."""
    assert variant
    random = torch.Generator().manual_seed(num_queries)
    k, v = torch.randn(2, num_queries + 70, 2, width, generator=random)
    v *= torch.logspace(-2, 2, k.shape[0])[:, None, None]
    q = torch.randn(num_queries, 2, width, generator=random).bfloat16()
    ours, exact = both(q, k, v)
    torch.testing.assert_close(ours, exact, atol=4e-3 * float(exact.abs().max()), rtol=1e-2)


def test_a_number_that_is_none_reaches_a_prompt(variant: str) -> None:
    assert variant
    k, v = torch.randn(2, 130, 2, WIDTH)
    v[100, 1, 3] = math.nan
    ours, _ = both(torch.randn(130, 2, WIDTH).bfloat16(), k, v)
    assert ours[100:, 1].isnan().all()
    assert ours[:, 0].isfinite().all()
