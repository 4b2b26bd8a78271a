"""Sequences with windows in any order: what a window covers holds what was written, and no page is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cynosure.cache import CacheKey, PagePool, Pin, PrefixTree, SequencePages, WindowPages

SIZE, NUM_BLOCKS, STEP = 2, 16, 4
KEYS = (CacheKey("ann", "tiny", "float32"), CacheKey("bob", "tiny", "float32"), None)
Place = tuple[int, int]


@dataclass(eq=False)
class Life:
    """A sequence, and the tokens that are in its pages."""

    pages: SequencePages
    key: CacheKey | None
    tokens: list[int] = field(default_factory=list)


class Laws(RuleBasedStateMachine):
    """A page's content is what was written to it last: each token with all that came before it."""

    @initialize(sizes=st.sampled_from([(3,), (5,), (2, 5), (1, 7)]), num_pages=st.integers(5, 12))
    def begin(self, sizes: Sequence[int], num_pages: int) -> None:
        self.windows = [WindowPages(size, num_pages, NUM_BLOCKS, SIZE, STEP) for size in sizes]
        self.pool = PagePool(NUM_BLOCKS, self.windows)
        self.tree = PrefixTree(self.pool, SIZE)
        self.written: list[dict[Place, tuple[object, ...]]] = [{} for _ in sizes]
        self.lives: list[Life] = []
        self.pins: list[Pin] = []

    @rule(key=st.sampled_from(KEYS), prompt=st.lists(st.integers(0, 1), min_size=1, max_size=14))
    def start(self, key: CacheKey | None, prompt: list[int]) -> None:
        pages = SequencePages(self.tree, key, self.never)
        match = pages.reuse(prompt)
        life = Life(pages, key, prompt[: match.num_tokens] if match else [])
        if not pages.reserve(len(prompt) - len(life.tokens)):
            pages.release()
            return
        self.lives.append(life)
        while len(life.tokens) < len(prompt):
            self.run(life, prompt[len(life.tokens) :][:STEP])

    @precondition(lambda self: self.lives)
    @rule(data=st.data(), new=st.lists(st.integers(0, 1), min_size=1, max_size=STEP))
    def grow(self, data: st.DataObject, new: list[int]) -> None:
        life = data.draw(st.sampled_from(self.lives))
        if life.pages.reserve(len(new)):
            self.run(life, new)

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def guess_wrong(self, data: st.DataObject) -> None:
        """Write ahead, and count nothing of it."""
        life = data.draw(st.sampled_from(self.lives))
        if life.pages.reserve(STEP):
            self.run(life, [9] * STEP, num_right=0)

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.lives))
        life.pages.release()
        self.lives.remove(life)

    @rule(key=st.sampled_from(KEYS[:2]), tokens=st.lists(st.integers(0, 1), max_size=14))
    def pin(self, key: CacheKey, tokens: list[int]) -> None:
        self.pins.append(self.tree.pin(key, tokens))

    @precondition(lambda self: self.pins)
    @rule()
    def unpin(self) -> None:
        self.tree.unpin(self.pins.pop(0))

    @invariant()
    def nothing_is_lost(self) -> None:
        pages = [life.pages for life in self.lives]
        self.tree.check([one.blocks for one in pages], [one.claimed for one in pages])
        for window in self.windows:
            assert all(len(one.claimed[0]) <= self.windows[0].max_held for one in pages)
            assert window.num_claimed <= window.num_pages

    def run(self, life: Life, new: list[int], num_right: int | None = None) -> None:
        """A pass: look at what is in each window, write the new tokens."""
        pages, past = life.pages, len(life.tokens)
        text = [*life.tokens, *new]
        pages.hold(len(new))
        for window, written in zip(self.windows, self.written, strict=True):
            for place in range(max(0, past - window.window + 1), len(text)):
                page = int(window.page_of[pages.blocks[place // SIZE]])
                assert page != window.nowhere
                content = (life.key, *text[: place + 1])
                if place < past:
                    assert written[page, place % SIZE] == content
                else:
                    written[page, place % SIZE] = content
        life.tokens = text[: past + (len(new) if num_right is None else num_right)]
        pages.fill(life.tokens)

    def never(self, source: int, destination: int) -> None:
        raise AssertionError(f"page {source} was copied to {destination}")

    def teardown(self) -> None:
        """All pages come back."""
        if not vars(self).get("windows"):
            return
        for life in self.lives:
            life.pages.release()
        for pin in self.pins:
            self.tree.unpin(pin)
        assert self.pool.num_available == NUM_BLOCKS
        for window in self.windows:
            assert window.num_available == window.num_unreserved == window.num_pages


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
