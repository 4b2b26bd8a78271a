"""Keep the pages of named sessions in memory, and on disk where asked. Knows nothing of requests or files.

In memory a session's pages are pinned, within a share of all pages: sessions, too, give way before a request
must wait. On disk they are found by any later request of the tenant that begins with the same tokens.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.cache import CacheKey, PagedCache, PageNames, PageStore, Pin, PrefixTree
from cynosure.cache.page_record import fits, groups_in, read_record, record_sizes, write_record
from cynosure.cache.window_end import WindowEnd
from cynosure.engine.session import Session

#: Of all pages, those that sessions may pin.
PINNED_SHARE = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Disk:
    """Where pages lie, and what those of this model are called there."""

    store: PageStore
    names: PageNames


class SessionPages:
    """The sessions of one engine. For its thread."""

    def __init__(self, tree: PrefixTree, cache: PagedCache, disk: Disk | None = None) -> None:
        """Pin nothing yet; without a disk, sessions live as long as this process."""
        self.disk = disk
        self._tree = tree
        self._cache = cache
        self._max_pinned = int(tree.pool.num_blocks * PINNED_SHARE)
        # The least recently used first.
        self._pins: OrderedDict[tuple[CacheKey, str], Pin] = OrderedDict()

    @property
    def num_sessions(self) -> int:
        """Sessions that pin pages."""
        return len(self._pins)

    def restore(self, key: CacheKey, token_ids: Sequence[int]) -> int:
        """Put pages from disk into the tree, where it lacks them, and return how many.

        They are as good as those that were computed here: `PrefixTree.match` finds and counts them.
        """
        if self.disk is None:
            return 0
        size = self._tree.block_size
        # The prompt's last token is computed again, whatever is kept.
        num_wanted = max(0, len(token_ids) - 1) // size
        if self._tree.peek(key, token_ids) // size >= num_wanted:
            return 0
        wanted = token_ids[: num_wanted * size]
        num_here = self._tree.num_known(key, wanted)
        names = self.disk.names.pages(key, wanted)
        num_known = num_here + self.disk.store.num_known(names[num_here:])
        # Of pages that are here, what a window needs may have given way.
        if num_known == num_here and not self._tree.pool.windows:
            return 0
        # What is here already must not give way to what is read.
        here = self._tree.pin(key, token_ids[: num_here * size])
        num_read = self._read(key, token_ids, here.blocks, names[:num_known])
        self._tree.unpin(here)
        return num_read

    def keep(self, key: CacheKey, session: Session, token_ids: Sequence[int]) -> None:
        """Keep a session's full pages from its request's end to its next request; they are in the tree."""
        size = self._tree.block_size
        old = self._pins.pop((key, session.name), None)
        if old is not None:
            self._tree.unpin(old)
        if self._max_pinned:
            pin = self._tree.pin(key, token_ids[: self._max_pinned * size])
            self._pins[key, session.name] = pin
            while self._is_full():
                self._unpin_oldest()
        if session.is_on_disk:
            self._write(key, session, token_ids)

    def give_way(self, num_blocks: int, num_running: int) -> None:
        """Let pins go, the least recently used session first, until there is room.

        That is for a sequence of so many blocks, and for a page more of each that runs.
        """
        while self._pins and not self._has_room(num_blocks, num_running):
            self._unpin_oldest()

    def _has_room(self, num_blocks: int, num_running: int) -> bool:
        pool = self._tree.pool
        return pool.num_available >= num_blocks + num_running and all(
            window.num_unreserved >= window.quota(num_blocks) + num_running for window in pool.windows
        )

    def _is_full(self) -> bool:
        """Whether sessions pin more than their share; one alone may have any number of a window's pages."""
        pins = self._pins.values()
        return sum(len(pin.blocks) for pin in pins) > self._max_pinned or any(
            len(pins) > 1 and sum(len(pin.claimed[place]) for pin in pins) > window.num_pages * PINNED_SHARE
            for place, window in enumerate(self._tree.pool.windows)
        )

    def _unpin_oldest(self) -> None:
        _, pin = self._pins.popitem(last=False)
        self._tree.unpin(pin)

    def _read(
        self, key: CacheKey, token_ids: Sequence[int], here: tuple[int, ...], names: Sequence[bytes]
    ) -> int:
        """Put pages into the tree; the first are `here`, save for what windows lack of them."""
        assert self.disk is not None
        num_read, last, held = 0, None, list(here)
        sizes = record_sizes(self._cache)
        end = WindowEnd(self._tree.pool.windows, len(names) * self._tree.block_size)
        for index in range(end.first(len(here)), len(names)):
            is_here = index < len(here)
            lacking = end.lacking(index, held[index] if is_here else None)
            if is_here and not lacking:
                continue
            if not is_here and not self._tree.make_room(1):
                break
            record = self.disk.store.read(names[index], sizes)
            if record is None or not fits(self._cache, record):
                break
            if not is_here:
                held += self._tree.pool.allocate(1) or ()
            found = set(groups_in(self._cache, record)).intersection(lacking)
            written = end.claim(held[index], found)
            write_record(self._cache, held[index], record, written if is_here else {0, *written})
            last, num_read = names[index], num_read + 1
        if last is not None:
            self.disk.store.used(last)
        if len(held) > len(here):
            blocks = self._tree.insert(key, token_ids[: len(held) * self._tree.block_size], held)
            self._tree.pool.release(blocks[len(here) :])
        end.release()
        return num_read

    def _write(self, key: CacheKey, session: Session, token_ids: Sequence[int]) -> None:
        assert self.disk is not None, "a request that asks for a disk was checked"
        pin = self._tree.pin(key, token_ids)
        names = self.disk.names.pages(key, token_ids)[: len(pin.blocks)]
        missing = frozenset(self.disk.store.missing(names))
        contents = {
            name: read_record(self._cache, block)
            for name, block in zip(names, pin.blocks, strict=True)
            if name in missing
        }
        self._tree.unpin(pin)
        if names and not self.disk.store.keep(self.disk.names.session(key, session.name), names, contents):
            _log.warning("a session was not put on disk: others still wait to be written")
