from __future__ import annotations

import pytest
import torch

from cynosure.cache import LayerShape, PagedCache, blocks_for, bytes_per_block
from cynosure.core.errors import InputTooLong

SHAPES = [LayerShape(2, 4, 3), LayerShape(1, 6, 0)]


def table(*rows: list[int]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


@pytest.fixture
def cache() -> PagedCache:
    cache = PagedCache(SHAPES, 5, torch.float32, block_size=4)
    for layer in range(2):
        for pages in cache.pages(layer):
            pages.fill_(float("nan"))
    return cache


def test_slots_go_on_behind_what_is_held_across_the_edges_of_pages(cache: PagedCache) -> None:
    slots = cache.slots(table([3, 1], [0, 4, 2], [2]), [3, 8, 0], [2, 1, 0])
    assert slots.tolist() == [15, 4, 8]
    assert cache.slots(table([2, 0]), [0], [8]).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]


def test_tokens_lie_where_their_slots_say_and_nowhere_else(cache: PagedCache) -> None:
    slots = cache.slots(table([3, 1]), [2], [4])
    for layer, shape in enumerate(SHAPES):
        k = torch.randn(4, shape.num_kv_heads, shape.head_dim)
        v = torch.randn(4, shape.num_kv_heads, shape.v_head_dim)
        cache.write(layer, k, v, slots)
        for pages, rows in zip(cache.pages(layer), (k, v), strict=True):
            assert torch.equal(pages[3, :, 2:], rows[:2].transpose(0, 1))
            assert torch.equal(pages[1, :, :2], rows[2:].transpose(0, 1))
            assert int(pages.isnan().sum()) == pages.numel() - rows.numel()


def test_a_copied_page_is_the_same_in_every_layer_and_its_own(cache: PagedCache) -> None:
    slots = cache.slots(table([2]), [0], [4])
    for layer, shape in enumerate(SHAPES):
        k = torch.randn(4, shape.num_kv_heads, shape.head_dim)
        cache.write(layer, k, k[..., : shape.v_head_dim], slots)
    cache.copy_block(2, 0)
    for layer in range(2):
        for pages in cache.pages(layer):
            assert torch.equal(pages[0], pages[2])
            pages[2].zero_()
            assert not pages[0].numel() or bool(pages[0].any())


def test_too_few_pages_are_refused_for_each_sequence(cache: PagedCache) -> None:
    cache.slots(table([0, 1], [2]), [4, 0], [4, 4])
    with pytest.raises(InputTooLong, match="sequence 1 would hold 5 tokens; its pages hold 4"):
        cache.slots(table([0, 1], [2]), [4, 4], [4, 1])


@pytest.mark.parametrize(("tables", "why"), [([[0], [0]], "one place"), ([[0], [5]], "outside")])
def test_tables_that_would_do_harm_are_noticed(cache: PagedCache, tables: list[list[int]], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        cache.slots(table(*tables), [0, 0], [2, 2])


def test_one_page_may_be_written_to_in_different_places(cache: PagedCache) -> None:
    assert cache.slots(table([0], [0]), [0, 2], [2, 2]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_a_page_is_what_is_reserved(dtype: torch.dtype) -> None:
    size = bytes_per_block(SHAPES, dtype, 4)
    cache = PagedCache(SHAPES, 7, dtype, block_size=4)
    reserved = sum(pages.untyped_storage().nbytes() for layer in range(2) for pages in cache.pages(layer))
    assert reserved == 7 * size
    assert blocks_for(7 * size + size - 1, SHAPES, dtype, 4) == 7
    assert blocks_for(size - 1, SHAPES, dtype, 4) == 0
