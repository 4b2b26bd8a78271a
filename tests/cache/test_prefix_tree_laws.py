"""The pool and the tree do what a naive model does, whatever sequences do to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cynosure.cache import CacheKey, PagePool, Pin, PrefixTree, SequencePages

SIZE = 2
KEYS = [CacheKey("ann", "m", "float32"), CacheKey("bob", "m", "float32")]
Path = tuple[int, tuple[int, ...]]
Content = tuple[int, tuple[int, ...]]

keys = st.sampled_from(range(len(KEYS)))
texts = st.lists(st.integers(0, 1), min_size=1, max_size=9)


@dataclass(eq=False)
class Life:
    """One sequence, what must be in its pages, and the paths under which the first of them are retained."""

    key: int
    pages: SequencePages
    tokens: list[int]
    paths: list[Path]


class Laws(RuleBasedStateMachine):
    """The model keeps every retained path with the moment of its last use, and what each page holds.

    `written[block]` is `(key, all tokens from the first)` of what was last computed into the page; a page
    that a sequence reads must hold the beginning of just that sequence under just that key.
    """

    @initialize(num_blocks=st.integers(4, 12))
    def start(self, num_blocks: int) -> None:
        self.pool = PagePool(num_blocks)
        self.tree = PrefixTree(self.pool, SIZE)
        self.lives: list[Life] = []
        self.pins: list[tuple[int, Pin, list[Path]]] = []
        self.used: dict[Path, tuple[int, int]] = {}
        self.written: dict[int, Content] = {}
        self.now = 0

    def copy(self, source: int, destination: int) -> None:
        assert self.pool.is_exclusive(destination)
        self.written[destination] = self.written[source]

    def paths(self, key: int, tokens: list[int], count: int) -> list[Path]:
        return [(key, tuple(tokens[: (index + 1) * SIZE])) for index in range(count)]

    def touch(self, paths: list[Path]) -> None:
        self.now += 1
        self.used.update({path: (self.now, -len(path[1])) for path in paths})

    def known(self, key: int, tokens: list[int], most: int) -> list[Path]:
        paths = self.paths(key, tokens, most)
        missing = [index for index, path in enumerate(paths) if path not in self.used]
        return paths[: missing[0]] if missing else paths

    def needed(self) -> set[Path]:
        """Paths whose pages a sequence or a pin holds."""
        held = [path for *_, paths in self.pins for path in paths]
        return {*held, *(path for life in self.lives for path in life.paths)}

    def num_missing(self, life: Life, length: int) -> int:
        """Pages that growing to `length` takes: new ones, and a copy of one that others may read."""
        index, blocks = len(life.tokens) // SIZE, life.pages.blocks
        count = max(0, -(-length // SIZE) - len(blocks))
        if index < len(blocks):
            others = (other.pages.blocks for other in self.lives if other is not life)
            count += index < len(life.paths) or any(blocks[index] in other for other in others)
        return count

    def make_room(self, count: int, free: int) -> bool:
        """Evict as the law says, one leaf at a time; whether it suffices."""
        idle = self.used.keys() - self.needed()
        if count > free + len(idle):
            return False
        for _ in range(count - free):
            leaves = [
                path
                for path in idle & self.used.keys()
                if not any(key == path[0] and text[:-SIZE] == path[1] for key, text in self.used)
            ]
            del self.used[min(leaves, key=self.used.__getitem__)]
        return True

    def write(self, life: Life, tokens: list[int]) -> None:
        """Compute the tokens that are not in the pages yet."""
        first = life.pages.num_tokens
        for place in range(first, len(tokens)):
            block = life.pages.blocks[place // SIZE]
            assert self.pool.is_exclusive(block), "a page that others read would be written to"
            if place % SIZE:
                key, before = self.written[block]
                assert (key, before[:place]) == (life.key, tuple(tokens[:place]))
            self.written[block] = (life.key, tuple(tokens[: place + 1]))

    def grow(self, life: Life, tokens: list[int]) -> None:
        free, num_new = self.pool.num_free, len(tokens) - life.pages.num_tokens
        num_missing, before = self.num_missing(life, len(tokens)), life.pages.blocks
        assert life.pages.num_missing(num_new) == num_missing
        fits = life.pages.reserve(num_new)
        assert fits == self.make_room(num_missing, free)
        if not fits:
            assert life.pages.blocks == before
            return
        self.write(life, tokens)
        num_full, had = len(tokens) // SIZE, len(life.tokens) // SIZE
        life.pages.fill(tokens)
        life.tokens, life.paths = tokens, self.paths(life.key, tokens, num_full)
        if num_full > had:
            self.touch(life.paths)

    @rule(key=keys, tokens=texts)
    def begin(self, key: int, tokens: list[int]) -> None:
        pages = SequencePages(self.tree, KEYS[key], self.copy)
        expected = self.known(key, tokens, (len(tokens) - 1) // SIZE)
        assert self.tree.peek(KEYS[key], tokens) == len(expected) * SIZE
        match = pages.reuse(tokens)
        assert match is not None
        assert match.num_tokens == len(expected) * SIZE < len(tokens)
        self.touch(expected)
        life = Life(key, pages, tokens[: match.num_tokens], expected)
        self.lives.append(life)
        self.grow(life, tokens)

    @precondition(lambda self: self.lives)
    @rule(data=st.data(), more=texts)
    def go_on(self, data: st.DataObject, more: list[int]) -> None:
        life = data.draw(st.sampled_from(self.lives))
        self.grow(life, life.tokens + more)

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def crop(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.lives))
        length = data.draw(st.integers(0, len(life.tokens)))
        life.pages.crop(length)
        life.tokens, life.paths = life.tokens[:length], life.paths[: -(-length // SIZE)]

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.lives))
        self.lives.append(replace(life, pages=life.pages.fork()))

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.lives))
        life.pages.release()
        self.lives.remove(life)

    @rule(key=keys, tokens=texts)
    def pin(self, key: int, tokens: list[int]) -> None:
        paths = self.known(key, tokens, len(tokens) // SIZE)
        pin = self.tree.pin(KEYS[key], tokens)
        assert len(pin.blocks) == len(paths)
        self.touch(paths)
        self.pins.append((key, pin, paths))

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.pins))
        self.tree.unpin(chosen[1])
        self.pins.remove(chosen)

    @invariant()
    def no_page_leaks(self) -> None:
        self.tree.check([life.pages.blocks for life in self.lives])
        assert self.pool.num_idle == len(self.used.keys() - self.needed())

    @invariant()
    def pages_hold_what_their_sequence_wrote(self) -> None:
        for life in self.lives:
            assert life.pages.num_tokens == len(life.tokens)
            for index, block in enumerate(life.pages.blocks):
                text = life.tokens[: (index + 1) * SIZE]
                key, held = self.written[block]
                # A page that was cropped and shared may hold more than this sequence counts.
                assert (key, held[: len(text)]) == (life.key, tuple(text))

    @invariant()
    def order_is_that_of_last_use(self) -> None:
        expected = [path[1] for path in sorted(self.used, key=self.used.__getitem__)]
        assert [self.written[block][1] for block in self.tree.retained] == expected

    @invariant()
    def no_page_is_held_under_two_keys(self) -> None:
        holders = [(block, life.key) for life in self.lives for block in life.pages.blocks]
        holders += [(block, key) for key, pin, _ in self.pins for block in pin.blocks]
        owners = dict(holders)
        assert all(owners[block] == key for block, key in holders)

    def teardown(self) -> None:
        """All pages come back."""
        for life in self.lives:
            life.pages.release()
        for _, pin, _ in self.pins:
            self.tree.unpin(pin)
        assert self.pool.num_available == self.pool.num_blocks
        self.tree.forget(lambda key: True)
        self.tree.check([])
        assert self.pool.num_free == self.pool.num_blocks


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
