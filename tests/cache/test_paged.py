from __future__ import annotations

import pytest
import torch

from cynosure.cache import LayerShape, PagedCache, WindowPages, blocks_for, bytes_per_block, cache_dtype
from cynosure.cache.paged import encode
from cynosure.core.errors import InputTooLong, UnknownOption

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_the_size_of_a_page_is_what_is_reserved(dtype: torch.dtype) -> None:
    size = bytes_per_block(SHAPES, dtype, 4)
    cache = PagedCache(SHAPES, 7, dtype, block_size=4)
    tensors = [(*cache.pages(layer), *(cache.scales(layer) or ())) for layer in range(2)]
    reserved = sum(pages.untyped_storage().nbytes() for layer in tensors for pages in layer)
    assert reserved == 7 * size
    assert blocks_for(7 * size + size - 1, SHAPES, dtype, 4) == 7
    assert blocks_for(size - 1, SHAPES, dtype, 4) == 0


@pytest.mark.parametrize("num_tokens", [0, 1, 3, 4, 5])
def test_codes_lie_beside_their_scales_and_are_within_half_a_step(num_tokens: int) -> None:
    cache = PagedCache(SHAPES, 3, torch.int8, block_size=4)
    places = list(range(11, 11 - num_tokens, -1))
    slots = torch.tensor(places, dtype=torch.int64)
    for layer, shape in enumerate(SHAPES):
        k = torch.randn(num_tokens, shape.num_kv_heads, shape.head_dim) * 3
        v = torch.randn(num_tokens, shape.num_kv_heads, shape.v_head_dim)
        cache.write(layer, k, v, slots)
        scales = cache.scales(layer)
        assert scales is not None
        for pages, factors, rows in zip(cache.pages(layer), scales, (k, v), strict=True):
            assert pages.dtype is torch.int8
            assert factors.shape == pages.shape[:3]
            for token, place in enumerate(places):
                block, offset = divmod(place, 4)
                step = factors[block, :, offset, None]
                read = pages[block, :, offset].double() * step
                assert bool(((read - rows[token]).abs() <= step / 2 * 1.0001).all())
                assert not rows.shape[-1] or pages[block, :, offset].abs().amax(-1).eq(127).all()


def test_a_token_s_codes_are_its_own_and_copies_take_their_scales_along() -> None:
    cache = PagedCache(SHAPES, 3, torch.int8, block_size=4)
    k = torch.randn(8, 2, 4) * torch.logspace(-3, 3, 8)[:, None, None]
    cache.write(0, k, k[..., :3], torch.arange(8))
    alone, scale = encode(k[5:6])
    scales = cache.scales(0)
    assert scales is not None
    assert torch.equal(cache.pages(0)[0][1, :, 1], alone[0])
    assert torch.equal(scales[0][1, :, 1], scale[0])
    cache.copy_block(1, 2)
    for tensor in (*cache.pages(0), *scales):
        assert torch.equal(tensor[1], tensor[2])


def test_zeros_stay_zeros_and_what_is_no_number_does_not_become_one() -> None:
    codes, scale = encode(torch.zeros(1, 1, 4))
    assert (codes.tolist(), scale.tolist()) == ([[[0, 0, 0, 0]]], [[0.0]])
    for bad in (float("nan"), float("inf"), -float("inf")):
        codes, scale = encode(torch.tensor([[[1.0, bad, 2.0, 3.0]]]))
        assert bool((codes * scale[..., None]).isnan().all())
    tiny, scale = encode(torch.full((1, 1, 4), 1e-44))
    assert bool((tiny * scale[..., None]).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_a_page_goes_out_as_bytes_and_comes_back_in_another_place(dtype: torch.dtype) -> None:
    cache = PagedCache(SHAPES, 3, dtype, block_size=4)
    for layer, shape in enumerate(SHAPES):
        k = torch.randn(4, shape.num_kv_heads, shape.head_dim)
        cache.write(layer, k, torch.randn(4, shape.num_kv_heads, shape.v_head_dim), torch.arange(4, 8))
    content = cache.read_page(1)
    assert len(content) == cache.page_bytes() == bytes_per_block(SHAPES, dtype, 4)
    cache.write_page(2, content)
    assert cache.read_page(2) == content
    for layer in range(len(SHAPES)):
        for tensor in (*cache.pages(layer), *(cache.scales(layer) or ())):
            assert torch.equal(tensor[1], tensor[2])
    with pytest.raises(AssertionError, match="another cache"):
        cache.write_page(2, content[:-1])


def test_pages_are_written_in_the_dtype_of_the_cache() -> None:
    cache = PagedCache(SHAPES, 3, torch.bfloat16, block_size=4)
    k = torch.randn(1, 2, 4)
    cache.write(0, k, k[..., :3], torch.tensor([6]))
    assert cache.scales(0) is None
    assert torch.equal(cache.pages(0)[0][1, :, 2], k[0].bfloat16())


def test_a_cache_s_dtype_by_its_name() -> None:
    assert cache_dtype("auto", torch.bfloat16) is torch.bfloat16
    assert cache_dtype("float32", torch.bfloat16) is torch.float32
    assert cache_dtype("int8", torch.bfloat16) is torch.int8
    with pytest.raises(UnknownOption, match="'fp8'; choose one of auto, bfloat16, float32, int8"):
        cache_dtype("fp8", torch.bfloat16)


@pytest.fixture
def windowed() -> PagedCache:
    """Layers 1 and 3 look back at five tokens, and have two pages."""
    windows = [WindowPages(5, 2, 6, block_size=4, max_step=4)]
    shapes = [LayerShape(1, 2, 2), LayerShape(1, 2, 2, window=5), LayerShape(1, 2, 2, window=7)]
    return PagedCache([*shapes, shapes[1]], 6, torch.float32, 4, windows)


def test_layers_with_a_window_have_its_pages_and_one_of_zeros(windowed: PagedCache) -> None:
    assert [windowed.group_of(layer) for layer in range(4)] == [0, 1, 0, 1]
    assert [windowed.pages(layer)[0].shape[0] for layer in range(4)] == [6, 3, 6, 3]
    assert not windowed.pages(1)[0][2].any()
    assert windowed.page_bytes(1) == windowed.page_bytes(0) == 128
    assert windowed.num_bytes == (6 + 3) * 128


def test_each_group_finds_its_own_pages(windowed: PagedCache) -> None:
    window = windowed.windows[0]
    for block in (3, 1):
        window.claim(block)
    whole, near = windowed.places(table([0, 3, 1], [1]), [9, 0], [2, 0])
    assert whole.block_table.tolist() == [[0, 3, 1], [1, -1, -1]]
    assert whole.slots.tolist() == [5, 6]
    pages = [int(window.page_of[block]) for block in (3, 1)]
    assert near.block_table.tolist() == [[window.nowhere, *pages], [pages[1], -1, -1]]
    assert near.slots.tolist() == [pages[1] * 4 + 1, pages[1] * 4 + 2]


@pytest.mark.parametrize(("past", "is_noticed"), [(9, False), (8, False), (7, True)])
def test_a_page_that_is_seen_and_not_held_is_noticed(
    windowed: PagedCache, past: int, is_noticed: bool
) -> None:
    """The token after eight others sees the fifth of them, in the second block; after seven, the fourth."""
    for block in (3, 1):
        windowed.windows[0].claim(block)
    if not is_noticed:
        windowed.places(table([0, 3, 1]), [past], [1])
        return
    with pytest.raises(AssertionError, match="inside a window has no page"):
        windowed.places(table([0, 3, 1]), [past], [1])


def test_new_tokens_need_a_page_too(windowed: PagedCache) -> None:
    windowed.windows[0].claim(3)
    windowed.places(table([3, 1]), [0], [4])
    with pytest.raises(AssertionError, match="inside a window has no page"):
        windowed.places(table([3, 1]), [0], [5])
