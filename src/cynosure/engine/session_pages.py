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
        num_here = self._tree.peek(key, token_ids) // size
        if num_here >= num_wanted:
            return 0
        names = self.disk.names.pages(key, token_ids[: num_wanted * size])
        num_known = self.disk.store.num_known(names[num_here:])
        if not num_known:
            return 0
        # What is here already must not give way to what is read.
        here = self._tree.pin(key, token_ids[: num_here * size])
        num_read = self._read(key, token_ids, here.blocks, names[num_here : num_here + num_known])
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
            while sum(len(each.blocks) for each in self._pins.values()) > self._max_pinned:
                self._unpin_oldest()
        if session.is_on_disk:
            self._write(key, session, token_ids)

    def give_way(self, num_blocks: int) -> None:
        """Let pins go, the least recently used session first, until so many pages can be had."""
        while self._pins and self._tree.pool.num_available < num_blocks:
            self._unpin_oldest()

    def _unpin_oldest(self) -> None:
        _, pin = self._pins.popitem(last=False)
        self._tree.unpin(pin)

    def _read(
        self, key: CacheKey, token_ids: Sequence[int], here: tuple[int, ...], names: Sequence[bytes]
    ) -> int:
        assert self.disk is not None
        num_read, held = 0, here
        for name in names:
            if not self._tree.make_room(1):
                break
            content = self.disk.store.read(name, self._cache.page_bytes)
            if content is None:
                break
            fresh = self._tree.pool.allocate(1)
            assert fresh is not None
            self._cache.write_page(fresh[0], content)
            held += fresh
            num_read += 1
        if num_read:
            self.disk.store.used(names[num_read - 1])
            held = self._tree.insert(key, token_ids[: len(held) * self._tree.block_size], held)
            self._tree.pool.release(held[len(here) :])
        return num_read

    def _write(self, key: CacheKey, session: Session, token_ids: Sequence[int]) -> None:
        assert self.disk is not None, "a request that asks for a disk was checked"
        pin = self._tree.pin(key, token_ids)
        names = self.disk.names.pages(key, token_ids)[: len(pin.blocks)]
        missing = frozenset(self.disk.store.missing(names))
        contents = {
            name: self._cache.read_page(block)
            for name, block in zip(names, pin.blocks, strict=True)
            if name in missing
        }
        self._tree.unpin(pin)
        if names and not self.disk.store.keep(self.disk.names.session(key, session.name), names, contents):
            _log.warning("a session was not put on disk: others still wait to be written")
