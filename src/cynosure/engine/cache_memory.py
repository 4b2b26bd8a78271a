"""Reserve a decoder's pages and states, and open the books about them. Knows nothing of requests.

How a memory is shared out: `cache/state_counts.py` between states and pages, `cache/page_counts.py` between
pages that are kept and pages of windows.
"""

from __future__ import annotations

import torch

from cynosure.cache import (
    PageCounts,
    PagedCache,
    PageNeeds,
    PagePool,
    PrefixTree,
    StateSlots,
    StateStore,
    WindowPages,
    bytes_per_block,
    bytes_per_slot,
    cache_dtype,
    page_counts,
    state_counts,
)
from cynosure.core.errors import InputError
from cynosure.engine.schedule import Limits, WindowLimits
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.native.page_choosing import bounds_bytes

#: Where nothing bounds a sequence and no layer keeps anything of a token, so many have names at least.
LONGEST_UNBOUNDED = 1 << 17


def open_pages(graph: Decoder, settings: EngineSettings, model_id: str) -> tuple[PagedCache, PrefixTree]:
    """Return the pages of a decoder, and the tree and pool that know who holds which.

    Raises:
        InputError: the memory does not hold one page, or the state of one sequence.
    """
    states, slots = _open_states(graph, settings, model_id)
    dtype, size = cache_dtype(settings.kv_cache_dtype, graph.dtype), settings.block_size
    # A pass adds a chunk to a sequence, or a token and the guesses behind it.
    max_step = max(settings.chunk_size, 1 + settings.num_speculative_tokens)
    needs = PageNeeds(size, graph.spec.max_model_len, settings.max_num_seqs, max_step)
    memory = settings.kv_cache_bytes - (0 if states is None else states.num_bytes)
    if bytes_per_block(graph.cache_shapes, dtype, size):
        counts = page_counts(
            _bytes_of_pages(graph, settings, dtype, memory), graph.cache_shapes, dtype, needs
        )
    else:
        longest = LONGEST_UNBOUNDED if graph.spec.max_model_len is None else graph.spec.max_model_len
        counts = PageCounts(_num_running(settings, slots) * -(-longest // size), {})
    if counts.num_blocks < 1:
        raise InputError(
            f"kv_cache_bytes is {settings.kv_cache_bytes}, which does not hold one page of "
            f"{size} tokens of {model_id}. Raise it."
        )
    windows = [
        WindowPages(window, num_pages, counts.num_blocks, size, max_step)
        for window, num_pages in counts.windows.items()
    ]
    cache = PagedCache(graph.cache_shapes, counts.num_blocks, dtype, size, windows, states)
    return cache, PrefixTree(PagePool(counts.num_blocks, windows, slots), size)


def limits_of(settings: EngineSettings, pool: PagePool) -> Limits:
    """Return what a step may hold, and use of the pages."""
    return Limits(
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=_num_running(settings, pool.states),
        chunk_size=settings.chunk_size,
        block_size=settings.block_size,
        num_blocks=pool.num_blocks,
        num_free_blocks=pool.num_available,
        windows=tuple(
            WindowLimits(window.max_held, window.num_pages, window.num_unreserved) for window in pool.windows
        ),
    )


def usage_of(pool: PagePool) -> float:
    """Return which share sequences hold, where it is largest: of all pages, a window's, or the states."""
    shares = [window.num_claimed / window.num_pages for window in pool.windows]
    if pool.states is not None:
        shares.append(1 - pool.states.num_free / pool.states.num_running)
    return max(1 - pool.num_available / pool.num_blocks, *shares, 0.0)


def _num_running(settings: EngineSettings, states: StateSlots | None) -> int:
    """How many sequences run at once: as many as have a state, where they need one."""
    return settings.max_num_seqs if states is None else min(settings.max_num_seqs, states.num_running)


def _open_states(
    graph: Decoder, settings: EngineSettings, model_id: str
) -> tuple[StateStore | None, StateSlots | None]:
    """Reserve the states of layers that have one, and open the books about them."""
    if not any(graph.state_shapes):
        return None, None
    page = bytes_per_block(graph.cache_shapes, cache_dtype(settings.kv_cache_dtype, graph.dtype))
    slot = bytes_per_slot(graph.state_shapes, graph.dtype)
    counts = state_counts(
        settings.kv_cache_bytes,
        slot,
        settings.max_num_seqs,
        has_pages=page > 0,
        keeps_copies=settings.has_prefix_cache,
    )
    if not counts.num_running:
        raise InputError(
            f"kv_cache_bytes is {settings.kv_cache_bytes}, which does not hold the state of one sequence of "
            f"{model_id}, {slot} bytes. Raise it."
        )
    store = StateStore(graph.state_shapes, counts.num_slots, graph.dtype)
    return store, StateSlots(counts.num_running, counts.num_kept, store.copy)


def _bytes_of_pages(graph: Decoder, settings: EngineSettings, dtype: torch.dtype, memory_bytes: int) -> int:
    """What bounds leave of the memory where pages have some."""
    if not settings.has_page_bounds or any(graph.state_shapes):
        return memory_bytes
    page = bytes_per_block(graph.cache_shapes, dtype, settings.block_size)
    return memory_bytes * page // (page + bounds_bytes(graph.cache_shapes))
