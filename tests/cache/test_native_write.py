"""The kernels put the same bits into pages as indexing does, and rotate as the plain formula says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cynosure.cache import paged
from cynosure.cache.contiguous import LayerShape
from cynosure.cache.native_write import Pages, Turn, write_native
from cynosure.cache.paged import PagedCache
from cynosure.kernels import why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def filled(cache: PagedCache) -> PagedCache:
    """Start from known pages, so that what is not written can be compared too."""
    for tensor in (*cache.pages(0), *(cache.scales(0) or ())):
        tensor.zero_()
    return cache


def written(
    monkeypatch: pytest.MonkeyPatch, k: Tensor, v: Tensor, dtype: torch.dtype, slots: Tensor
) -> list[list[Tensor]]:
    """Write by the kernels and by indexing."""
    shape = LayerShape(k.shape[1], k.shape[2], v.shape[2])
    results = []
    for refusal in ("", "asked to"):
        monkeypatch.setattr(paged, "why_not_native", lambda *_, refusal=refusal: refusal)
        cache = filled(PagedCache([shape], 5, dtype, block_size=8))
        cache.write(0, k, v, slots)
        results.append([*cache.pages(0), *(cache.scales(0) or ())])
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("num_tokens", "width", "v_width"), [(0, 8, 8), (1, 64, 64), (17, 20, 12), (33, 576, 0)]
)
def test_pages_get_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    source: torch.dtype,
    num_tokens: int,
    width: int,
    v_width: int,
) -> None:
    k = torch.randn(num_tokens, 3, width).to(source)
    v = torch.randn(num_tokens, 3, v_width).to(source)
    slots = torch.randperm(40)[:num_tokens]
    ours, plain = written(monkeypatch, k, v, dtype, slots)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("worst", [math.nan, math.inf, 0.0, 1e-42, 3e38])
def test_codes_of_strange_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch, worst: float) -> None:
    k, v = torch.randn(4, 1, 8), torch.zeros(4, 1, 8)
    k[1, 0, 3] = v[2, 0, 1] = worst
    ours, plain = written(monkeypatch, k, v, torch.int8, torch.tensor([3, 9, 2, 31]))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize("half", [1, 5, 8, 16])
def test_keys_turn_on_their_way_and_queries_in_place(
    dtype: torch.dtype, is_interleaved: bool, half: int
) -> None:
    q, k, v = (torch.randn(19, heads, 32).to(dtype) for heads in (4, 2, 2))
    angles = torch.rand(19, half) * 6
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    expected_q, expected_k = turned(q, cos, sin, is_interleaved), turned(k, cos, sin, is_interleaved)
    pages = Pages(torch.zeros(3, 2, 8, 32, dtype=dtype), torch.zeros(3, 2, 8, 32, dtype=dtype))
    slots = torch.randperm(24)[:19]
    # Queries as a projection leaves them: a part of wider rows.
    wide = torch.cat([q.flatten(1), k.flatten(1)], 1)
    view = wide[:, : 4 * 32].unflatten(1, (4, 32))
    write_native(k, v, slots, pages, Turn(cos, sin, is_interleaved, view))
    at = pages.k.transpose(1, 2).flatten(0, 1)[slots]
    assert torch.equal(view, expected_q)
    assert torch.equal(at, expected_k)
    assert torch.equal(pages.v.transpose(1, 2).flatten(0, 1)[slots], v)
    assert torch.equal(wide[:, 4 * 32 :], k.flatten(1))
    assert not torch.equal(at, k)


def turned(x: Tensor, cos: Tensor, sin: Tensor, is_interleaved: bool) -> Tensor:
    """Rotate in float32 and round once."""
    half = cos.shape[1]
    wide, c, s = x.float().clone(), cos.float()[:, None], sin.float()[:, None]
    first = slice(0, 2 * half, 2) if is_interleaved else slice(0, half)
    second = slice(1, 2 * half, 2) if is_interleaved else slice(half, 2 * half)
    a, b = wide[..., first].clone(), wide[..., second].clone()
    wide[..., first], wide[..., second] = a * c - b * s, b * c + a * s
    return wide.to(x.dtype)
