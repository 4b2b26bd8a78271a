from __future__ import annotations

import pytest
import torch

from cynosure.cache import LayerShape, PagedCache, WindowPages
from cynosure.cache.page_record import fits, groups_in, read_record, record_sizes, write_record

SHAPES = [LayerShape(2, 3, 5), LayerShape(1, 4, 4, window=6), LayerShape(1, 2, 2, window=9)]


def cache_of(dtype: torch.dtype = torch.float32, *, shapes: list[LayerShape] = SHAPES) -> PagedCache:
    sizes = sorted({shape.window for shape in shapes if shape.window is not None})
    windows = [WindowPages(size, 3, 5, block_size=4, max_step=4) for size in sizes]
    cache = PagedCache(shapes, 5, dtype, 4, windows)
    dice = torch.Generator().manual_seed(3)
    for layer in range(len(shapes)):
        group = cache.group_of(layer)
        for pages in (*cache.pages(layer), *(cache.scales(layer) or ())):
            count = pages.shape[0] - bool(group)
            pages[:count] = torch.randint(-9, 9, pages[:count].shape, generator=dice).to(pages.dtype)
    return cache


def holding(cache: PagedCache, block: int, *groups: int) -> PagedCache:
    for group in groups:
        cache.windows[group - 1].claim(block)
    return cache


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("groups", [(), (1,), (2,), (1, 2)])
def test_what_is_held_is_written_and_read_again(dtype: torch.dtype, groups: tuple[int, ...]) -> None:
    cache = holding(cache_of(dtype), 4, *groups)
    record = read_record(cache, 4)
    assert len(record) in record_sizes(cache)
    assert groups_in(cache, record) == groups
    other = holding(cache_of(dtype), 2, *groups)
    for layer in range(3):
        for pages in cache.pages(layer):
            pages.zero_()
    write_record(other, 2, record, (0, *groups))
    assert read_record(other, 2) == record


def test_only_the_groups_that_are_asked_for_are_written() -> None:
    cache = holding(cache_of(), 4, 1, 2)
    record = read_record(cache, 4)
    other = holding(cache_of(), 1, 1, 2)
    before = [other.read_page(int(window.page_of[1]), group) for group, window in enumerate(other.windows, 1)]
    whole = other.read_page(1)
    write_record(other, 1, record, (2,))
    assert other.read_page(1) == whole
    assert other.read_page(int(other.windows[0].page_of[1]), 1) == before[0]
    assert (
        other.read_page(int(other.windows[1].page_of[1]), 2) == read_record(cache, 4)[-cache.page_bytes(2) :]
    )


def test_without_windows_a_record_is_the_page() -> None:
    cache = cache_of(shapes=SHAPES[:1])
    assert read_record(cache, 3) == cache.read_page(3)
    assert record_sizes(cache) == {cache.page_bytes()}
    assert groups_in(cache, read_record(cache, 3)) == ()
    write_record(cache, 0, read_record(cache, 3), (0,))
    assert cache.read_page(0) == cache.read_page(3)


def test_a_record_of_another_cache_is_noticed() -> None:
    """Also where it is as long as one of ours: there the second window was none, and its layers kept all."""
    cache = holding(cache_of(), 4, 1)
    assert fits(cache, read_record(cache, 4))
    other = cache_of(shapes=[SHAPES[0], SHAPES[1], LayerShape(1, 2, 2)])
    record = read_record(other, 4)
    assert len(record) in record_sizes(cache)
    assert not fits(cache, record)
    with pytest.raises(AssertionError, match="of another cache"):
        write_record(cache, 4, read_record(cache, 4) + b"x", ())
