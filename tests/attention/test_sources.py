"""Pages of codes attend as pages of the numbers that they stand for, on every backend that takes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cynosure.attention import AttentionPlan, PagedSource, PageScales, attend
from cynosure.attention.plan import KeyPlan
from cynosure.core.errors import AttentionError
from tests.attention.attend_cases import NATIVE, plain_spec

BLOCK, NUM_BLOCKS, HEADS, WIDTH = 8, 9, 2, 8


def coded(dtype: torch.dtype = torch.float32) -> tuple[PagedSource, PagedSource]:
    """Return pages of codes, and pages of numbers with the same content, in float64."""
    codes = [torch.randint(-127, 128, (NUM_BLOCKS, HEADS, BLOCK, WIDTH)).to(torch.int8) for _ in "kv"]
    scales = [torch.rand(NUM_BLOCKS, HEADS, BLOCK) / 60 for _ in "kv"]
    numbers = [code.double() * scale[..., None] for code, scale in zip(codes, scales, strict=True)]
    return PagedSource(*codes, PageScales(*scales), dtype), PagedSource(*numbers)


def plan_of(q_lens: list[int], kv_lens: list[int]) -> AttentionPlan:
    plan = AttentionPlan.of_lengths(q_lens, kv_lens)
    table = torch.tensor([[7, 2, 0, 5, 8], [1, 6, -1, -1, -1]])[: len(q_lens)]
    keys = plan.keys[0]
    return plan.with_keys(KeyPlan(**{**vars(keys), "block_table": table}))


@pytest.mark.parametrize("backend", ["reference", "tiled", "sdpa", NATIVE])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 33, 40])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_codes_attend_as_what_they_stand_for(backend: str, length: int, num_queries: int) -> None:
    source, numbers = coded()
    num_queries = min(num_queries, length)
    plan = plan_of([num_queries, 1], [length, 12])
    q = torch.randn(num_queries + 1, 4, WIDTH)
    spec = plain_spec("Full()")
    ours = attend(spec, q, [source], plan, backend=backend)
    exact = attend(spec, q.double(), [numbers], plan, backend="reference")
    torch.testing.assert_close(ours.out.double(), exact.out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.lse.double(), exact.lse, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_reading_gives_the_dtype_that_was_asked_for(dtype: torch.dtype) -> None:
    source, numbers = coded(dtype)
    plan = plan_of([1], [40])
    for start, stop in ((0, 40), (3, 3), (7, 9), (8, 16), (31, 40)):
        pairs = zip(
            source.read(plan.keys[0], 0, start, stop), numbers.read(plan.keys[0], 0, start, stop), strict=True
        )
        for ours, exact in pairs:
            assert ours.dtype is dtype
            assert torch.equal(ours, exact.float().to(dtype))


def test_numbers_may_be_read_wider_than_they_are_kept() -> None:
    pages = torch.randn(NUM_BLOCKS, HEADS, BLOCK, WIDTH).bfloat16()
    source = PagedSource(pages, pages, read_dtype=torch.float32)
    assert source.dtype is torch.float32
    assert not source.has_codes
    k, _ = source.read(plan_of([1], [9]).keys[0], 0, 0, 9)
    assert torch.equal(k[:, :8], pages[7].float())


def pages(dtype: torch.dtype) -> Tensor:
    return torch.zeros(NUM_BLOCKS, HEADS, BLOCK, WIDTH, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "scales", "read_dtype", "words"),
    [
        (torch.int8, None, torch.float32, "without scales"),
        (torch.int8, (NUM_BLOCKS, HEADS, BLOCK), None, "read as torch.int8 with scales"),
        (torch.float32, (NUM_BLOCKS, HEADS, BLOCK), None, "no others have scales"),
        (torch.int8, (NUM_BLOCKS, HEADS, 1), torch.float32, r"scales must be \(9, 2, 8\)"),
    ],
)
def test_codes_and_scales_belong_together(
    dtype: torch.dtype, scales: tuple[int, ...] | None, read_dtype: torch.dtype | None, words: str
) -> None:
    given = None if scales is None else PageScales(torch.ones(scales), torch.ones(scales))
    with pytest.raises(AttentionError, match=words):
        PagedSource(pages(dtype), pages(dtype), given, read_dtype)
