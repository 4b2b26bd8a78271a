"""State how busy an engine is. Counts nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLoad:
    """One moment of one engine.

    - `num_running`, `num_waiting`: requests that take part in steps, and that are not admitted yet.
    - `kv_cache_usage`: share of the pages that running requests hold, from 0 to 1; pages that are only kept
      for later requests can be had at once and do not count.
    - `num_prefix_queries`, `num_prefix_hits`: prompt tokens, in full pages, that were looked up in the prefix
      cache since the start, and those that were found there.
    - `num_drafted`, `num_accepted`: tokens that were guessed since the start, and those that were right.
    """

    num_running: int = 0
    num_waiting: int = 0
    kv_cache_usage: float = 0.0
    num_prefix_queries: int = 0
    num_prefix_hits: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
