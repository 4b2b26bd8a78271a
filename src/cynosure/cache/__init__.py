"""Keep keys and values between steps. Knows nothing of attention or models."""

from cynosure.cache.cache_key import CacheKey
from cynosure.cache.contiguous import ContiguousCache, LayerShape
from cynosure.cache.page_counts import PageCounts, PageNeeds, page_counts
from cynosure.cache.page_names import PageNames
from cynosure.cache.page_pool import PagePool
from cynosure.cache.page_store import PageStore, StoreStatistics
from cynosure.cache.paged import BLOCK_SIZE, PagedCache, Places, blocks_for, bytes_per_block, cache_dtype
from cynosure.cache.prefix_tree import Match, MatchEnd, Pin, PrefixStatistics, PrefixTree
from cynosure.cache.sequence_pages import SequencePages, check_books
from cynosure.cache.state_counts import StateCounts, state_counts
from cynosure.cache.state_slots import StateSlots
from cynosure.cache.state_store import LayerState, StatePath, StateShape, StateStore, bytes_per_slot
from cynosure.cache.window_pages import WindowPages

__all__ = [
    "BLOCK_SIZE",
    "CacheKey",
    "ContiguousCache",
    "LayerShape",
    "LayerState",
    "Match",
    "MatchEnd",
    "PageCounts",
    "PageNames",
    "PageNeeds",
    "PagePool",
    "PageStore",
    "PagedCache",
    "Pin",
    "Places",
    "PrefixStatistics",
    "PrefixTree",
    "SequencePages",
    "StateCounts",
    "StatePath",
    "StateShape",
    "StateSlots",
    "StateStore",
    "StoreStatistics",
    "WindowPages",
    "blocks_for",
    "bytes_per_block",
    "bytes_per_slot",
    "cache_dtype",
    "check_books",
    "page_counts",
    "state_counts",
]
