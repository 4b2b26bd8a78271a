"""Hold choosing pages on every variant of the kernels against its plain twin, and both against its laws."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, Heads, PagedSource, PageScales, attend
from cynosure.attention.masks import Causal
from cynosure.attention.native_pages import attend_natively, learn_natively
from cynosure.attention.page_choice import (
    MIN_PAGES,
    NUM_FIRST,
    NUM_LAST,
    PageChoice,
    attend_to_pages,
    bounds_of,
    choose_pages,
)
from cynosure.cache.paged import encode
from cynosure.kernels import kernels, page_choice, why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

BLOCK, WIDTH = 32, 40
LIMITS = {"float32": 2e-5, "bfloat16": 3e-2, "int8": 3e-2}


def scene(
    kind: str, kv_lens: list[int], q_lens: list[int] | None = None, num_heads: int = 6
) -> tuple[AttentionSpec, Tensor, PagedSource, AttentionPlan]:
    """Return a decoding step over pages in a random order; scores are spread wide."""
    q_lens = q_lens or [1] * len(kv_lens)
    random = torch.Generator().manual_seed(sum(kv_lens))
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    counts = [-(-length // BLOCK) for length in kv_lens]
    order = torch.randperm(sum(counts), generator=random).tolist()
    rows = [[order.pop() for _ in range(count)] for count in counts]
    table = torch.tensor([[*row, *[-1] * (max(counts) - len(row))] for row in rows])
    k, v = torch.randn(2, sum(counts), 2, BLOCK, WIDTH, generator=random)
    k *= torch.rand(sum(counts), 2, 1, 1, generator=random) * 2
    if kind == "int8":
        (k_codes, k_by), (v_codes, v_by) = ((encode(x.flatten(0, 1))) for x in (k, v))
        codes = [x.reshape(k.shape) for x in (k_codes, v_codes)]
        scales = PageScales(*(x.reshape(k.shape[:3]) for x in (k_by, v_by)))
        source = PagedSource(*codes, scales, dtype)
    else:
        source = PagedSource(k.to(dtype), v.to(dtype))
    q = torch.randn(sum(q_lens), num_heads, WIDTH, generator=random).to(dtype)
    plan = AttentionPlan.of_lengths(q_lens, kv_lens)
    plan = plan.with_keys(replace(plan.keys[0], block_table=table))
    return AttentionSpec(Heads.of(num_heads, WIDTH, 2), Causal()), q, source, plan


def choice_of(source: PagedSource, num_pages: list[int], is_checked: list[int] | None = None) -> PageChoice:
    return PageChoice(
        bounds_of(source), torch.tensor(num_pages), torch.tensor(is_checked or [0] * len(num_pages))
    )


def test_the_structs_are_the_librarys_own() -> None:
    mirrors = (page_choice.CPageChoice, page_choice.CBoundsCall)
    assert tuple(map(ctypes.sizeof, mirrors)) == page_choice.struct_sizes()


@pytest.mark.parametrize("kind", list(LIMITS))
def test_bounds_equal_the_plain_ones_and_bound(variant: str, kind: str) -> None:
    assert variant
    _, _, source, _ = scene(kind, [BLOCK * 7])
    bounds = torch.zeros(7, 2, 2, WIDTH, dtype=torch.bfloat16)
    learn_natively(source, torch.tensor([0, 1, 3, 4, 5, 6]), bounds)
    exact = bounds_of(source)
    assert torch.equal(bounds[3:], exact[3:])
    assert not bounds[2].any()
    keys = source.k_pages.float() * (1 if source.scales is None else source.scales.k[..., None])
    assert bool((exact[:, :, 0].float() <= keys.amin(2)).all())
    assert bool((exact[:, :, 1].float() >= keys.amax(2)).all())
    assert bool((exact.float() - torch.stack([keys.amin(2), keys.amax(2)], 2)).abs().max() < 0.05)


@pytest.mark.parametrize("kind", list(LIMITS))
@pytest.mark.parametrize("length", [BLOCK * 9 - 1, BLOCK * 9, BLOCK * 9 + 1, BLOCK * 200 + 5])
def test_chosen_pages_give_what_the_twin_gives(variant: str, kind: str, length: int) -> None:
    assert variant
    spec, q, source, plan = scene(kind, [length])
    choice = choice_of(source, [7])
    ours, exact = (
        attend_natively(spec, q, source, plan, choice),
        attend_to_pages(spec, q, source, plan, choice),
    )
    torch.testing.assert_close(ours.out, exact.out, atol=LIMITS[kind], rtol=LIMITS[kind])
    torch.testing.assert_close(ours.lse, exact.lse, atol=LIMITS[kind], rtol=LIMITS[kind])
    dense = attend(spec, q, [source], plan, backend="native")
    assert float((ours.lse - dense.lse).abs().max()) > 1e-3, "all pages were attended to"
    assert bool((ours.lse <= dense.lse + 1e-5).all())


@pytest.mark.parametrize("num_heads", [2, 32, 34, 70])
@pytest.mark.parametrize("num_pages", [4 + 1, 15 + 3, 16 + 3, 17 + 3, 63 + 3, 64 + 3, 65 + 3, 129 + 3])
def test_many_heads_and_any_number_of_pages_choose_as_the_twin_does(
    variant: str, num_heads: int, num_pages: int
) -> None:
    """Sixteen heads fill a lane-full, sixty-four pages a batch."""
    assert variant
    spec, q, source, plan = scene("bfloat16", [BLOCK * num_pages - 3], num_heads=num_heads)
    choice = choice_of(source, [MIN_PAGES], [1])
    ours, exact = (
        attend_natively(spec, q, source, plan, choice),
        attend_to_pages(spec, q, source, plan, choice),
    )
    torch.testing.assert_close(ours.shares, exact.shares, atol=2e-2, rtol=2e-2)
    assert float(ours.shares.min()) < 1


def test_of_equal_pages_the_first_are_chosen(variant: str) -> None:
    assert variant
    spec, q, source, plan = scene("bfloat16", [BLOCK * 40])
    table = plan.keys[0].block_table
    assert table is not None
    source.k_pages[:] = source.k_pages[table[0, 7]].clone()
    choice = choice_of(source, [6])
    ours = attend_natively(spec, q, source, plan, choice)
    exact = attend_to_pages(spec, q, source, plan, choice)
    torch.testing.assert_close(ours.out, exact.out, atol=3e-2, rtol=3e-2)
    source.v_pages[table[0, 4:38]] += 10
    assert torch.equal(attend_natively(spec, q, source, plan, choice).out, ours.out)


@pytest.mark.parametrize("kind", list(LIMITS))
def test_as_many_pages_as_there_are_give_the_bits_of_all(variant: str, kind: str) -> None:
    assert variant
    spec, q, source, plan = scene(kind, [BLOCK * 9 + 3, 40, 1])
    dense = attend(spec, q, [source], plan, backend="native")
    for num_pages in ([10, 10, 10], [0, 0, 0], [0, 4, 4], [99, 0, 99]):
        ours = attend_natively(spec, q, source, plan, choice_of(source, num_pages, [1, 0, 1]))
        assert torch.equal(ours.out, dense.out)
        assert torch.equal(ours.lse, dense.lse)
        assert bool((ours.shares == 1).all())


def test_neighbours_that_choose_change_nothing(variant: str) -> None:
    assert variant
    spec, q, source, plan = scene("bfloat16", [400, 500, 77, 600], [1, 1, 5, 1])
    choice = choice_of(source, [5, 0, 0, 6])
    ours, exact = (
        attend_natively(spec, q, source, plan, choice),
        attend_to_pages(spec, q, source, plan, choice),
    )
    torch.testing.assert_close(ours.out, exact.out, atol=3e-2, rtol=3e-2)
    dense = attend(spec, q, [source], plan, backend="native")
    assert torch.equal(ours.out[1:7], dense.out[1:7])
    assert not torch.equal(ours.out[0], dense.out[0])
    alone = AttentionPlan.of_lengths([1], [600])
    table = plan.keys[0].block_table
    assert table is not None
    alone = alone.with_keys(replace(alone.keys[0], block_table=table[3:]))
    last = PageChoice(choice.bounds, choice.num_pages[3:], choice.is_checked[3:])
    assert torch.equal(attend_natively(spec, q[7:], source, alone, last).out, ours.out[7:])


def test_a_checked_step_is_exact_and_tells_what_was_recalled(variant: str) -> None:
    assert variant
    spec, q, source, plan = scene("float32", [BLOCK * 40])
    dense = attend(spec, q, [source], plan, backend="native")
    checked = choice_of(source, [8], [1])
    ours, exact = (
        attend_natively(spec, q, source, plan, checked),
        attend_to_pages(spec, q, source, plan, checked),
    )
    assert torch.equal(ours.out, dense.out)
    torch.testing.assert_close(ours.shares, exact.shares, atol=1e-4, rtol=1e-4)
    chosen = attend_natively(spec, q, source, plan, choice_of(source, [8]))
    torch.testing.assert_close(ours.shares[0], (chosen.lse - dense.lse)[0].exp(), atol=1e-5, rtol=1e-5)
    assert 0.05 < float(ours.shares.min()) < 0.999


def test_first_and_last_pages_are_always_in() -> None:
    _, q, source, _ = scene("float32", [BLOCK * 20])
    pages = choose_pages(q[0], bounds_of(source), MIN_PAGES)
    assert pages.shape == (2, MIN_PAGES)
    assert pages[:, :NUM_FIRST].tolist() == [[0]] * 2
    assert pages[:, -NUM_LAST:].tolist() == [[18, 19]] * 2


def test_the_page_of_a_score_far_above_the_others_is_in() -> None:
    _, q, source, plan = scene("float32", [BLOCK * 30])
    table = plan.keys[0].block_table
    assert table is not None
    source.k_pages[table[0, 11], :, 5] = 20.0 * q[0, ::3]
    assert all(11 in row for row in choose_pages(q[0], bounds_of(source)[table[0]], MIN_PAGES).tolist())


@pytest.mark.usefixtures("threads")
def test_threads_change_no_bit() -> None:
    spec, q, source, plan = scene("bfloat16", [BLOCK * 300])
    kernels().set_num_threads(1)
    choice = choice_of(source, [20])
    alone = attend_natively(spec, q, source, plan, choice)
    for num_threads in (2, 5):
        kernels().set_num_threads(num_threads)
        ours = attend_natively(spec, q, source, plan, choice)
        assert torch.equal(ours.out, alone.out)
