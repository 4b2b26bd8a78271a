"""Find the pages that an earlier sequence with the same beginning filled. Knows nothing of tensors.

A tree of full pages: its roots are `CacheKey`s, its edges the token ids of one page, compared one by one
(a hash only finds the place). Each page depends on all tokens before it, which its path spells out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from cynosure.cache.cache_key import CacheKey
from cynosure.cache.page_pool import PagePool
from cynosure.cache.window_pages import WindowPages


class MatchEnd(Enum):
    """Why a match did not go on.

    `PROMPT_END`: every full page before the last token was found. `NEW_KEY`: nothing is kept under the key.
    `NEW_TOKENS`: no sequence under the key had these tokens here. `EVICTED`: one had, but its page gave way.
    `WINDOW_EVICTED`: pages go on, but of layers with a window, what the next token looks at gave way.
    `NO_STATE`: pages go on, but of layers with a state, none is kept behind the later ones.
    """

    PROMPT_END = "prompt_end"
    NEW_KEY = "new_key"
    NEW_TOKENS = "new_tokens"
    EVICTED = "evicted"
    WINDOW_EVICTED = "window_evicted"
    NO_STATE = "no_state"


@dataclass(frozen=True)
class Match:
    """Pages that hold the first `num_tokens` tokens of a prompt."""

    blocks: tuple[int, ...]
    num_tokens: int
    end: MatchEnd


@dataclass(frozen=True, eq=False)
class Pin:
    """Pages that stay until `unpin`; of each window's, those of the blocks that are `claimed`."""

    blocks: tuple[int, ...]
    claimed: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class PrefixStatistics:
    """What all matches so far found, in full pages before each prompt's last token; and what gave way."""

    num_hits: int
    num_misses: int
    num_evicted: int
    ends: Mapping[MatchEnd, int]


_Tokens = tuple[int, ...]


@dataclass(eq=False, slots=True)
class _Level:
    """What may come next after a path. `trail` is a hash of key and path, for statistics alone."""

    key: CacheKey
    trail: int
    pages: dict[_Tokens, _Page] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Page:
    tokens: _Tokens
    block: int
    above: _Level
    below: _Level


class PrefixTree:
    """Retain full pages for later sequences, the least recently used giving way. For one thread.

    A sequence that holds a page of the tree holds all pages above it (`insert` sees to that), so a used page
    never stands below an idle one, and every idle page can give way.
    """

    def __init__(self, pool: PagePool, block_size: int) -> None:
        """Start empty."""
        self.pool = pool
        self.block_size = block_size
        self._roots: dict[CacheKey, _Level] = {}
        # Oldest use first; a page always stands before those above it.
        self._order: OrderedDict[_Page, None] = OrderedDict()
        self._pins: list[Pin] = []
        # Trails of pages that gave way: as many as there are pages, so that memory is bounded.
        self._evicted: OrderedDict[int, None] = OrderedDict()
        self._num_evicted = self._num_hits = self._num_misses = 0
        self._ends: Counter[MatchEnd] = Counter()

    @property
    def statistics(self) -> PrefixStatistics:
        """What happened so far."""
        return PrefixStatistics(self._num_hits, self._num_misses, self._num_evicted, dict(self._ends))

    @property
    def retained(self) -> tuple[int, ...]:
        """The tree's pages, the next to give way first."""
        return tuple(page.block for page in self._order)

    @property
    def pinned(self) -> tuple[tuple[int, ...], ...]:
        """The pages of each pin."""
        return tuple(pin.blocks for pin in self._pins)

    def peek(self, key: CacheKey, token_ids: Sequence[int]) -> int:
        """Return how many tokens `match` would find, and change nothing."""
        path, _ = self._walk(key, token_ids, self._num_reusable(token_ids))
        return self._num_usable(path) * self.block_size

    def num_known(self, key: CacheKey, token_ids: Sequence[int]) -> int:
        """Return how many full pages are kept of these tokens, usable or not."""
        return len(self._walk(key, token_ids, len(token_ids) // self.block_size)[0])

    def match(self, key: CacheKey, token_ids: Sequence[int]) -> Match:
        """Return the pages of the longest known beginning, with a reference each that the caller releases.

        The last token is never among them: it is computed again, so that there are logits. Where layers have
        a window, the beginning ends where all that the next token looks at is kept; where they have a state,
        behind a page whose state is kept.
        """
        num_reusable = self._num_reusable(token_ids)
        path, end = self._walk(key, token_ids, num_reusable)
        num_usable = self._num_usable(path)
        if num_usable < len(path):
            has_state = self.pool.states is not None
            path, end = path[:num_usable], MatchEnd.NO_STATE if has_state else MatchEnd.WINDOW_EVICTED
        blocks = tuple(page.block for page in path)
        self.pool.share(blocks)
        self._touch(path)
        self._num_hits += len(path)
        self._num_misses += num_reusable - len(path)
        self._ends[end] += 1
        return Match(blocks, len(path) * self.block_size, end)

    def insert(
        self,
        key: CacheKey,
        token_ids: Sequence[int],
        blocks: Sequence[int],
        moved: Callable[[int, int], None] | None = None,
    ) -> tuple[int, ...]:
        """Retain a sequence's full pages, and return the pages that it holds from now on.

        Where another sequence filled a page with the same tokens first, the caller's reference moves to that
        page and its own is released; the two are equal within rounding.

        Args:
            key: what shaped the pages beside the tokens.
            token_ids: tokens whose keys and values are in the pages, from the first; only what a pass that
                did not fail has written.
            blocks: the sequence's pages, with a reference each.
            moved: is told of each reference that moves: `(from, to)`, while both pages are held.
        """
        held = list(blocks)
        num_full = len(token_ids) // self.block_size
        assert num_full <= len(held), f"{len(token_ids)} tokens can't be in {len(held)} pages"
        if not num_full:
            return tuple(held)
        level = self._roots.setdefault(key, _Level(key, hash(key)))
        path = []
        for index in range(num_full):
            tokens = self._tokens(token_ids, index)
            page = level.pages.get(tokens)
            if page is None:
                page = self._add(level, tokens, held[index])
            elif page.block != held[index]:
                self.pool.share([page.block])
                if moved is not None:
                    moved(held[index], page.block)
                self.pool.release([held[index]])
                held[index] = page.block
            path.append(page)
            level = page.below
        self._touch(path)
        return tuple(held)

    def make_room(self, count: int) -> bool:
        """Have at least `count` pages free, the least recently used idle ones giving way.

        Returns `False`, and evicts nothing, where even all of them would not suffice.
        """
        if count > self.pool.num_available:
            return False
        missing = count - self.pool.num_free
        if missing > 0:
            idle = (page for page in self._order if self.pool.is_idle(page.block))
            for page in list(islice(idle, missing)):
                self._evict(page)
        return True

    def pin(self, key: CacheKey, token_ids: Sequence[int]) -> Pin:
        """Keep the pages that are known of `token_ids`, all full ones, until `unpin`.

        Of layers with a window, what the token after them looks at stays too, where there is room for it.
        """
        path, _ = self._walk(key, token_ids, len(token_ids) // self.block_size)
        blocks = tuple(page.block for page in path)
        pin = Pin(blocks, tuple(self._claimed_end(window, blocks) for window in self.pool.windows))
        self.pool.share(pin.blocks)
        self._touch(path)
        self._pins.append(pin)
        return pin

    def unpin(self, pin: Pin) -> None:
        """Let pinned pages give way again."""
        self._pins.remove(pin)
        for window, blocks in zip(self.pool.windows, pin.claimed, strict=True):
            window.unreserve(len(blocks))
            for block in reversed(blocks):
                window.unclaim(block, is_of_use=True)
        self.pool.release(pin.blocks)

    def forget(self, is_unwanted: Callable[[CacheKey], bool]) -> None:
        """Never match a page under these keys again; those that are used are free once released.

        Sequences under such a key must have ended, or `insert` would bring their pages back.
        """
        for page in [page for page in self._order if is_unwanted(page.above.key)]:
            self._evict(page)

    def check(self, tables: Sequence[Sequence[int]], claimed: Sequence[Sequence[Sequence[int]]] = ()) -> None:
        """Assert that pool and tree agree, and that `tables` and pins account for every reference.

        `claimed` are the blocks of each sequence whose pages it claims, window by window.
        """
        self.pool.check([*tables, *self.pinned], self.retained)
        holders = [*claimed, *(pin.claimed for pin in self._pins)]
        for place, window in enumerate(self.pool.windows):
            window.check([holder[place] for holder in holders])
        places = {page.below: place for place, page in enumerate(self._order)}
        for page, place in zip(self._order, places.values(), strict=True):
            assert page.above.pages[page.tokens] is page
            assert len(page.tokens) == self.block_size
            assert places.get(page.above, len(places)) > place, "a page would give way before one below it"
            if self.pool.is_idle(page.block):
                assert all(self.pool.is_idle(below.block) for below in page.below.pages.values())
        assert all(level.pages for level in self._roots.values())

    def _num_usable(self, path: Sequence[_Page]) -> int:
        """Return after how many pages of a path, at most, all windows are whole and a state is kept."""
        states = self.pool.states
        if not self.pool.windows and states is None:
            return len(path)
        usable = set(range(len(path) + 1))
        if states is not None:
            usable = {0, *(count for count, page in enumerate(path, 1) if states.is_kept(page.block))}
        for window in self.pool.windows:
            run, whole = 0, {0}
            for count, page in enumerate(path, start=1):
                run = run + 1 if window.is_held(page.block) else 0
                # What is held must reach back as far as the next token looks.
                if run >= count - window.first_block(count * self.block_size):
                    whole.add(count)
            usable &= whole
        return max(usable)

    def _claimed_end(self, window: WindowPages, blocks: Sequence[int]) -> tuple[int, ...]:
        """Claim what the token after `blocks` looks at, and return it; nothing where there is no room."""
        seen = blocks[window.first_block(len(blocks) * self.block_size) :]
        held = tuple(block for block in seen if window.is_held(block))
        if not window.reserve(len(held)):
            return ()
        for block in held:
            window.claim(block)
        return held

    def _num_reusable(self, token_ids: Sequence[int]) -> int:
        return max(0, len(token_ids) - 1) // self.block_size

    def _tokens(self, token_ids: Sequence[int], index: int) -> _Tokens:
        return tuple(token_ids[index * self.block_size : (index + 1) * self.block_size])

    def _walk(self, key: CacheKey, token_ids: Sequence[int], max_blocks: int) -> tuple[list[_Page], MatchEnd]:
        root = self._roots.get(key)
        level = _Level(key, hash(key)) if root is None else root
        path: list[_Page] = []
        for index in range(max_blocks):
            tokens = self._tokens(token_ids, index)
            page = level.pages.get(tokens)
            if page is None:
                if hash((level.trail, tokens)) in self._evicted:
                    return path, MatchEnd.EVICTED
                return path, MatchEnd.NEW_KEY if root is None else MatchEnd.NEW_TOKENS
            path.append(page)
            level = page.below
        return path, MatchEnd.PROMPT_END

    def _touch(self, path: Sequence[_Page]) -> None:
        for page in reversed(path):
            self._order.move_to_end(page)

    def _add(self, level: _Level, tokens: _Tokens, block: int) -> _Page:
        self.pool.retain(block)
        page = _Page(tokens, block, level, _Level(level.key, hash((level.trail, tokens))))
        level.pages[tokens] = page
        self._order[page] = None
        self._evicted.pop(page.below.trail, None)
        return page

    def _evict(self, page: _Page) -> None:
        self.pool.evict(page.block)
        del self._order[page]
        del page.above.pages[page.tokens]
        if not page.above.pages and self._roots.get(page.above.key) is page.above:
            del self._roots[page.above.key]
        self._num_evicted += 1
        self._evicted[page.below.trail] = None
        if len(self._evicted) > self.pool.num_blocks:
            self._evicted.popitem(last=False)
