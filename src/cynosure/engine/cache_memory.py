"""Reserve a decoder's pages, and open the books about them. Knows nothing of requests.

How a memory is shared out among pages that are kept and pages of windows: `cache/page_counts.py`.
"""

from __future__ import annotations

import torch

from cynosure.cache import (
    PagedCache,
    PageNeeds,
    PagePool,
    PrefixTree,
    WindowPages,
    bytes_per_block,
    cache_dtype,
    page_counts,
)
from cynosure.core.errors import InputError
from cynosure.engine.schedule import WindowLimits
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.native.page_choosing import bounds_bytes


def open_pages(graph: Decoder, settings: EngineSettings, model_id: str) -> tuple[PagedCache, PrefixTree]:
    """Return the pages of a decoder, and the tree and pool that know who holds which.

    Raises:
        InputError: the memory does not hold one page.
    """
    dtype, size = cache_dtype(settings.kv_cache_dtype, graph.dtype), settings.block_size
    # A pass adds a chunk to a sequence, or a token and the guesses behind it.
    max_step = max(settings.chunk_size, 1 + settings.num_speculative_tokens)
    needs = PageNeeds(size, graph.spec.max_model_len, settings.max_num_seqs, max_step)
    counts = page_counts(_bytes_of_pages(graph, settings, dtype), graph.cache_shapes, dtype, needs)
    if counts.num_blocks < 1:
        raise InputError(
            f"kv_cache_bytes is {settings.kv_cache_bytes}, which does not hold one page of "
            f"{size} tokens of {model_id}. Raise it."
        )
    windows = [
        WindowPages(window, num_pages, counts.num_blocks, size, max_step)
        for window, num_pages in counts.windows.items()
    ]
    cache = PagedCache(graph.cache_shapes, counts.num_blocks, dtype, size, windows)
    return cache, PrefixTree(PagePool(counts.num_blocks, windows), size)


def window_limits(pool: PagePool) -> tuple[WindowLimits, ...]:
    """Return what a step may use of each window's pages."""
    return tuple(
        WindowLimits(window.max_held, window.num_pages, window.num_unreserved) for window in pool.windows
    )


def usage_of(pool: PagePool) -> float:
    """Return which share of the pages sequences hold, where it is largest: of all, or of a window's."""
    shares = [window.num_claimed / window.num_pages for window in pool.windows]
    return max(1 - pool.num_available / pool.num_blocks, *shares, 0.0)


def _bytes_of_pages(graph: Decoder, settings: EngineSettings, dtype: torch.dtype) -> int:
    """What bounds leave of the memory where pages have some."""
    if not settings.has_page_bounds:
        return settings.kv_cache_bytes
    page = bytes_per_block(graph.cache_shapes, dtype, settings.block_size)
    return settings.kv_cache_bytes * page // (page + bounds_bytes(graph.cache_shapes))
