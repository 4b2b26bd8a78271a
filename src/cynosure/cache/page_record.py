"""Put all that is held of a block into one record, and take it out again. Knows nothing of files or tokens.

A record is the block's page in the layers that keep everything. Where layers have windows, a byte stands
before it that tells, bit by bit, of which windows a page follows: behind a window there is none to write.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

from cynosure.cache.paged import PagedCache

MAX_WINDOWS = 8


def record_sizes(cache: PagedCache) -> frozenset[int]:
    """Return the lengths that a record of this cache can have, in bytes."""
    if not cache.windows:
        return frozenset({cache.page_bytes()})
    assert len(cache.windows) <= MAX_WINDOWS, "a byte tells of eight windows"
    parts = [cache.page_bytes(group) for group in _groups(cache)]
    sums = {sum(some) for count in range(len(parts) + 1) for some in combinations(parts, count)}
    return frozenset(1 + cache.page_bytes() + total for total in sums)


def read_record(cache: PagedCache, block: int) -> bytes:
    """Return what is held of a block."""
    if not cache.windows:
        return cache.read_page(block)
    held = [group for group in _groups(cache) if cache.windows[group - 1].is_held(block)]
    flags = sum(1 << (group - 1) for group in held)
    pages = (cache.read_page(int(cache.windows[group - 1].page_of[block]), group) for group in held)
    return b"".join((bytes([flags]), cache.read_page(block), *pages))


def groups_in(cache: PagedCache, record: bytes) -> tuple[int, ...]:
    """Return the groups of layers with a window of which a record has the page."""
    if not cache.windows:
        return ()
    return tuple(group for group in _groups(cache) if record[0] >> (group - 1) & 1)


def fits(cache: PagedCache, record: bytes) -> bool:
    """Whether a record was written by a cache whose layers form the same groups."""
    parts = (0, *groups_in(cache, record))
    return len(record) == bool(cache.windows) + sum(map(cache.page_bytes, parts))


def write_record(cache: PagedCache, block: int, record: bytes, groups: Collection[int]) -> None:
    """Have a block hold what a record has of these groups; the block has a page in each."""
    assert fits(cache, record), "the record is of another cache"
    if not cache.windows:
        cache.write_page(block, record)
        return
    start = 1
    for group in (0, *groups_in(cache, record)):
        stop = start + cache.page_bytes(group)
        if group in groups:
            page = int(cache.windows[group - 1].page_of[block]) if group else block
            cache.write_page(page, record[start:stop], group)
        start = stop


def _groups(cache: PagedCache) -> range:
    return range(1, 1 + len(cache.windows))
