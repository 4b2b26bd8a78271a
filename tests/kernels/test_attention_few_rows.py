"""Hold decoding steps of a few query heads, which have a path of their own, against the scalar twin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    DenseSource,
    Heads,
    PagedSource,
    PageScales,
    attend,
)
from cynosure.attention.backends import native
from cynosure.attention.masks import Causal, Window
from cynosure.attention.sources import Source
from cynosure.attention.state import AttentionState
from cynosure.cache.paged import encode
from cynosure.kernels import attention, why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

BLOCK = 32
EDGES = (1, 31, 32, 33, 127, 128, 129, 300)
LIMITS = {"float32": 2e-5, "bfloat16": 2e-2, "int8": 2e-2, "float16": 2e-3}


def source_of(kind: str, num_keys: int, num_heads: int, widths: tuple[int, int]) -> Source:
    k, v = (torch.randn(num_keys, num_heads, width) for width in widths)
    if kind != "int8":
        dtype = getattr(torch, kind)
        return DenseSource(k.to(dtype), v.to(dtype))
    parts = []
    for x in (k, v):
        padded = torch.zeros(-(-num_keys // BLOCK) * BLOCK, *x.shape[1:])
        padded[:num_keys] = x
        codes, scales = encode(padded)
        parts.append((codes.unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous(),
                      scales.unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous()))  # fmt: skip
    (k_codes, k_scales), (v_codes, v_scales) = parts
    return PagedSource(k_codes, v_codes, PageScales(k_scales, v_scales), torch.bfloat16)


def step_of(
    kind: str, num_keys: int, rows: int, widths: tuple[int, int], num_tokens: int = 1
) -> tuple[AttentionSpec, Tensor, Source, AttentionPlan]:
    """Return a step whose K/V heads have `rows` query heads each."""
    torch.manual_seed(num_keys + rows)
    source = source_of(kind, num_keys, 2, widths)
    plan = AttentionPlan.of_lengths([num_tokens], [num_keys])
    if isinstance(source, PagedSource):
        plan = plan.with_keys(replace(plan.keys[0], block_table=torch.arange(source.size)[None]))
    q = torch.randn(num_tokens, 2 * rows, widths[0]).to(source.dtype)
    return AttentionSpec(Heads(2 * rows, 2, *widths), Causal()), q, source, plan


def by_twin(spec: AttentionSpec, q: Tensor, source: Source, plan: AttentionPlan) -> AttentionState:
    before = native.attend
    native.attend = attention.attend_plain
    try:
        return attend(spec, q, [source], plan, backend="native")
    finally:
        native.attend = before


@pytest.mark.parametrize("kind", list(LIMITS))
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_few_rows_equal_the_twin(variant: str, kind: str, rows: int) -> None:
    assert variant
    for num_keys in EDGES:
        for widths in ((64, 64), (20, 33), (8, 96)):
            step = step_of(kind, num_keys, rows, widths)
            ours, exact = attend(step[0], step[1], [step[2]], step[3], backend="native"), by_twin(*step)
            limit = LIMITS[kind]
            torch.testing.assert_close(ours.out, exact.out, atol=limit, rtol=limit)
            torch.testing.assert_close(ours.lse, exact.lse, atol=limit, rtol=limit)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_mask_holds_for_few_rows(variant: str, kind: str) -> None:
    assert variant
    spec, q, source, plan = step_of(kind, 200, 1, (64, 64), num_tokens=2)
    windowed = replace(spec, mask=Causal() & Window(70))
    ours = attend(windowed, q, [source], plan, backend="native").out
    exact = by_twin(windowed, q, source, plan).out
    torch.testing.assert_close(ours, exact, atol=LIMITS[kind], rtol=LIMITS[kind])
    assert float((ours - by_twin(spec, q, source, plan).out).abs().max()) > 1e-2


def test_a_key_that_is_no_number_reaches_its_own_head(variant: str) -> None:
    assert variant
    spec, q, source, plan = step_of("float32", 140, 1, (64, 64))
    assert isinstance(source, DenseSource)
    source.k[130, 1, 7] = math.nan
    out = attend(spec, q, [source], plan, backend="native").out
    assert out[0, 1].isnan().all()
    assert out[0, 0].isfinite().all()
