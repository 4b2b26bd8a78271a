from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cynosure.cache.window_pages import WindowPages, max_held
from cynosure.core.errors import InputError

NUM_BLOCKS, NUM_PAGES = 12, 5


def pages_of(window: int = 8, num_pages: int = NUM_PAGES) -> WindowPages:
    return WindowPages(window, num_pages, NUM_BLOCKS, block_size=4, max_step=4)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("max_step", [1, 3, 4, 5])
def test_what_one_sequence_holds_is_what_its_windows_touch(window: int, max_step: int) -> None:
    """Counted block by block, wherever the pass begins; and the least such number."""
    counts = [
        len({token // 4 for token in range(past - window + 1, past + max_step)}) for past in range(40, 48)
    ]
    assert max_held(window, 4, max_step) == max(counts)


@pytest.mark.parametrize("window", [1, 2, 4, 5, 9])
def test_the_first_block_is_that_of_the_farthest_token_seen(window: int) -> None:
    pages = pages_of(window)
    for num_tokens in range(40):
        farthest = max(0, num_tokens - window + 1)
        assert pages.first_block(num_tokens) == farthest // 4


def test_a_page_serves_again_until_another_block_asks_for_the_room() -> None:
    pages = pages_of()
    assert pages.reserve(5)
    for block in range(5):
        pages.claim(block)
    kept = int(pages.page_of[0])
    for block in (0, 1, 2):
        pages.unclaim(block, is_of_use=True)
    pages.unclaim(3, is_of_use=False)
    assert not pages.is_held(3)
    pages.claim(0)
    assert int(pages.page_of[0]) == kept
    pages.claim(7)
    pages.claim(8)
    assert [pages.is_held(block) for block in (1, 2)] == [False, True], "the free page goes first, then 1"
    pages.check([[0, 4, 7, 8]])


def test_what_was_promised_can_be_claimed_and_no_more() -> None:
    pages = pages_of()
    assert pages.quota(2) == 2
    assert pages.quota(100) == pages.max_held == 4
    assert pages.reserve(3)
    assert not pages.reserve(3)
    assert pages.num_unreserved == 2
    for block in range(5):
        pages.claim(block)
    with pytest.raises(AssertionError, match="not promised"):
        pages.claim(5)
    with pytest.raises(AssertionError, match="were promised"):
        pages.check()
    with pytest.raises(AssertionError, match="more is given back"):
        pages.unreserve(4)


def test_a_block_that_nobody_holds_has_no_page() -> None:
    pages = pages_of()
    pages.reserve(1)
    pages.claim(6)
    with pytest.raises(AssertionError, match="while its page is claimed"):
        pages.forget(6)
    pages.unclaim(6, is_of_use=True)
    pages.forget(6)
    pages.forget(6)
    assert pages.num_available == NUM_PAGES
    assert not pages.is_held(6)
    with pytest.raises(AssertionError, match="has no page"):
        pages.unclaim(6, is_of_use=True)


@pytest.mark.parametrize("is_claimed", [True, False])
@pytest.mark.parametrize("has_own", [True, False])
def test_blocks_of_the_same_tokens_become_one(is_claimed: bool, has_own: bool) -> None:
    pages = pages_of()
    pages.reserve(3)
    pages.claim(2)
    source = int(pages.page_of[2])
    if has_own:
        pages.claim(9)
        pages.unclaim(9, is_of_use=True)
    own = int(pages.page_of[9])
    if not is_claimed:
        pages.unclaim(2, is_of_use=True)
    pages.merge(2, 9)
    assert int(pages.page_of[9]) == (own if has_own else source)
    assert pages.is_held(2) == (has_own and not is_claimed)
    pages.check([[9]] if is_claimed else [])


def test_nothing_to_merge_changes_nothing() -> None:
    pages = pages_of()
    pages.merge(1, 2)
    assert not pages.is_held(2)


def test_no_block_has_no_page() -> None:
    pages = pages_of()
    assert int(pages.page_of[-1]) == -1
    assert set(pages.page_of[:-1].tolist()) == {pages.nowhere} == {NUM_PAGES}


def test_no_page_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="num_pages is 0"):
        pages_of(num_pages=0)


class Laws(RuleBasedStateMachine):
    """Any order of claims: pages are neither lost nor held twice, and the oldest idle one gives way."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = pages_of()
        self.pages.reserve(NUM_PAGES)
        self.claims: list[int] = []
        self.idle: list[int] = []

    @rule(block=st.integers(0, NUM_BLOCKS - 1))
    def claim(self, block: int) -> None:
        is_new = block not in self.claims and block not in self.idle
        if is_new and len(set(self.claims)) == NUM_PAGES:
            return
        num_held = len(set(self.claims)) + len(self.idle)
        if block in self.idle:
            self.idle.remove(block)
        elif is_new and num_held == NUM_PAGES:
            self.idle.pop(0)
        self.pages.claim(block)
        self.claims.append(block)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), is_of_use=st.booleans())
    def unclaim(self, data: st.DataObject, is_of_use: bool) -> None:
        block = data.draw(st.sampled_from(self.claims))
        self.pages.unclaim(block, is_of_use=is_of_use)
        self.claims.remove(block)
        if block not in self.claims and is_of_use:
            self.idle.append(block)

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(self.idle))
        self.pages.forget(block)
        self.idle.remove(block)

    @invariant()
    def books_agree(self) -> None:
        self.pages.check([[block] for block in self.claims])
        held = {block for block in range(NUM_BLOCKS) if self.pages.is_held(block)}
        assert held == set(self.claims) | set(self.idle)
        assert self.pages.num_claimed == len(set(self.claims))


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
