"""Say how busy an engine is. Counts nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.cache import PrefixTree
from cynosure.engine.cache_memory import usage_of
from cynosure.observe.load import EngineLoad


@dataclass(frozen=True)
class Snapshot:
    """How busy an engine is."""

    num_waiting: int
    num_running: int
    num_free_blocks: int
    num_cached_blocks: int
    num_blocks: int


def load_of(now: Snapshot, tree: PrefixTree, num_drafted: int, num_accepted: int) -> EngineLoad:
    """Return a snapshot, and what was found of prompts and guessed of answers, in an operator's terms."""
    prefixes = tree.statistics
    return EngineLoad(
        num_running=now.num_running,
        num_waiting=now.num_waiting,
        kv_cache_usage=usage_of(tree.pool),
        num_prefix_queries=(prefixes.num_hits + prefixes.num_misses) * tree.block_size,
        num_prefix_hits=prefixes.num_hits * tree.block_size,
        num_drafted=num_drafted,
        num_accepted=num_accepted,
    )
