"""Hold the pages of one sequence: grow, fork, crop, give back. Knows nothing of tensors or scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cynosure.cache.cache_key import CacheKey
from cynosure.cache.prefix_tree import Match, PrefixTree
from cynosure.cache.state_hold import StateHold
from cynosure.cache.state_store import StatePath
from cynosure.cache.window_hold import WindowHold


class SequencePages:
    """The block table of a sequence, and how many tokens are in it.

    The order of a step is `reserve`, `hold`, the forward pass, `fill`; a sequence begins with `reuse` and
    ends with `release`. After `reserve` the pages that will be written to are this sequence's alone. Where it
    shows later whether a pass was sound, `count` comes after the pass, and `fill` once that is known.

    In layers with a window only what `hold` covers has a page, and a state is that of the last token alone.
    So where there are such layers, a sequence can be given up, but neither cropped nor forked.

    Args:
        tree: where pages are shared and found.
        key: what shapes the pages beside the tokens; `None` shares nothing.
        copy: copies a page's keys and values of all layers, `(source, destination)`.
    """

    def __init__(self, tree: PrefixTree, key: CacheKey | None, copy: Callable[[int, int], None]) -> None:
        """Hold nothing yet."""
        self.blocks: tuple[int, ...] = ()
        self.num_tokens = 0
        self._tree = tree
        self._key = key
        self._copy = copy
        self._num_inserted = 0
        self._holds = tuple(WindowHold(window, is_shared=key is not None) for window in tree.pool.windows)
        states = tree.pool.states
        self._state = (
            None if states is None else StateHold(states, tree.block_size, is_shared=key is not None)
        )

    @property
    def claimed(self) -> tuple[tuple[int, ...], ...]:
        """The blocks whose pages it claims, window by window."""
        return tuple(hold.claimed(self.blocks) for hold in self._holds)

    @property
    def state_slot(self) -> int | None:
        """The slot of its state, where it has one."""
        return None if self._state is None else self._state.slot

    @property
    def lent_slots(self) -> tuple[int, ...]:
        """The slots of copies of its state that nobody can find yet."""
        return () if self._state is None else self._state.lent

    @property
    def state_path(self) -> StatePath | None:
        """Where its state goes in the pass that `hold` was called for; `None` where no layer has one."""
        return None if self._state is None else self._state.path(self.num_tokens)

    def reuse(self, token_ids: Sequence[int]) -> Match | None:
        """Begin with the pages that are known of a prompt; `None` where nothing is shared."""
        assert not self.blocks, "only an empty sequence can begin with known pages"
        if self._key is None:
            return None
        match = self._tree.match(self._key, token_ids)
        self.blocks, self.num_tokens = match.blocks, match.num_tokens
        self._num_inserted = len(match.blocks)
        # Before anybody else can take them; `reserve` sees whether there is room for them.
        for hold in self._holds:
            hold.slide(self.blocks, self.num_tokens, len(self.blocks))
        if self._state is not None:
            # Behind this prompt, and where an earlier one took another way: both have been asked for.
            size = self._tree.block_size
            num_known = self._tree.num_known(self._key, token_ids)
            edges = {max(0, len(token_ids) - 1) // size * size, num_known * size}
            self._state.begin(match.blocks[-1] if match.blocks else None, edges, len(token_ids))
        return match

    def num_missing(self, num_new: int) -> int:
        """Return how many pages `reserve` would take."""
        return max(0, self._num_blocks(self.num_tokens + num_new) - len(self.blocks)) + self._must_copy(
            num_new
        )

    def reserve(self, num_new: int) -> bool:
        """Have room for `num_new` more tokens; `False`, and nothing has changed, where pages do not suffice.

        A page that others may read is copied before it is written to (copy on write): a page that was forked
        while it was partly filled, or cropped after it had been shared.
        """
        num_missing = self.num_missing(num_new)
        num_blocks = max(len(self.blocks), self._num_blocks(self.num_tokens + num_new))
        if not all(hold.has_room(num_blocks) for hold in self._holds):
            return False
        if self._state is not None and not self._state.has_room:
            return False
        if not self._tree.make_room(num_missing):
            return False
        fresh = self._tree.pool.allocate(num_missing)
        assert fresh is not None
        if self._must_copy(num_new):
            assert not self._holds, "pages of windows are never shared while they are partly filled"
            index = self.num_tokens // self._tree.block_size
            shared, own, fresh = self.blocks[index], fresh[0], fresh[1:]
            self._copy(shared, own)
            self._tree.pool.release([shared])
            self.blocks = (*self.blocks[:index], own, *self.blocks[index + 1 :])
        self.blocks += fresh
        for hold in self._holds:
            hold.reserve(num_blocks)
        if self._state is not None:
            self._state.reserve()
        return True

    def hold(self, num_new: int) -> None:
        """Have pages of windows for a pass of `num_new` tokens, and let those go that it has slid past.

        Of a state, have room for the copies that are worth it.
        """
        stop = self._num_blocks(self.num_tokens + num_new)
        assert stop <= len(self.blocks), "reserve comes before the pass"
        for hold in self._holds:
            hold.slide(self.blocks, self.num_tokens, stop)
        if self._state is not None:
            self._state.hold(self.num_tokens, num_new)

    def count(self, num_tokens: int) -> None:
        """Count the tokens that are in the pages now, and share none of them yet."""
        assert self._num_blocks(num_tokens) <= len(self.blocks), "reserve comes before the pass"
        self.num_tokens = num_tokens

    @property
    def has_full_page(self) -> bool:
        """Whether `fill` would share a page: one was filled since the last time."""
        return self._key is not None and self.num_tokens // self._tree.block_size > self._num_inserted

    def fill(self, token_ids: Sequence[int]) -> None:
        """Count the tokens that are in the pages now, all from the first; full pages become shareable."""
        self.count(len(token_ids))
        if self._key is not None and self.has_full_page:
            self.blocks = self._tree.insert(self._key, token_ids, self.blocks, self._moved)
            self._num_inserted = self.num_tokens // self._tree.block_size
        if self._state is not None:
            self._state.keep(self.blocks, self.num_tokens)

    def crop(self, num_tokens: int) -> None:
        """Forget all tokens from `num_tokens` on, as if they had never been written."""
        assert 0 <= num_tokens <= self.num_tokens
        assert not self._holds or not num_tokens, "what was slid past is not kept"
        if self._state is not None:
            assert not num_tokens, "a state can't be cut back to an earlier token"
            self._state.release()
        for hold in self._holds:
            hold.release(self.blocks)
        kept = self._num_blocks(num_tokens)
        self._tree.pool.release(self.blocks[kept:])
        self.blocks, self.num_tokens = self.blocks[:kept], num_tokens
        self._num_inserted = min(self._num_inserted, num_tokens // self._tree.block_size)

    def fork(self) -> SequencePages:
        """Return a sequence that holds the same tokens; whichever writes to a common page first copies it."""
        assert not self._holds, "pages of windows are one sequence's"
        assert self._state is None, "a state is one sequence's"
        twin = SequencePages(self._tree, self._key, self._copy)
        twin.blocks = self.blocks[: self._num_blocks(self.num_tokens)]
        twin.num_tokens, twin._num_inserted = self.num_tokens, self._num_inserted
        self._tree.pool.share(twin.blocks)
        return twin

    def release(self) -> None:
        """Give all pages back: at the end, or to be computed again later."""
        self.crop(0)

    def _moved(self, source: int, to: int) -> None:
        for hold in self._holds:
            hold.moved(source, to)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._tree.block_size)

    def _must_copy(self, num_new: int) -> bool:
        index = self.num_tokens // self._tree.block_size
        return (
            num_new > 0 and index < len(self.blocks) and not self._tree.pool.is_exclusive(self.blocks[index])
        )


def check_books(tree: PrefixTree, sequences: Sequence[SequencePages]) -> None:
    """Assert that these sequences, pins and copies account for every page and every slot."""
    tree.check([one.blocks for one in sequences], [one.claimed for one in sequences])
    if tree.pool.states is not None:
        taken = [one.state_slot for one in sequences if one.state_slot is not None]
        tree.pool.states.check(taken, [slot for one in sequences for slot in one.lent_slots])
