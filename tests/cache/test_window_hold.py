from __future__ import annotations

import pytest

from cynosure.cache.window_hold import WindowHold
from cynosure.cache.window_pages import WindowPages

BLOCKS = [7, 3, 9, 1, 8, 2, 6, 4]


def pages_of(num_pages: int = 6) -> WindowPages:
    return WindowPages(window=6, num_pages=num_pages, num_blocks=10, block_size=4, max_step=4)


def test_the_run_slides_with_the_sequence_and_stays_within_its_quota() -> None:
    pages = pages_of()
    hold = WindowHold(pages, is_shared=False)
    hold.reserve(len(BLOCKS))
    assert pages.num_unreserved == 6 - pages.max_held == 3
    for num_tokens in range(29):
        hold.slide(BLOCKS, num_tokens, -(-(num_tokens + 4) // 4))
        first = max(0, num_tokens - 5) // 4
        assert hold.claimed(BLOCKS) == tuple(BLOCKS[first : -(-(num_tokens + 4) // 4)])
        assert pages.num_claimed <= pages.max_held
        pages.check([hold.claimed(BLOCKS)])
    hold.release(BLOCKS)
    assert pages.num_available == pages.num_unreserved == 6


def test_it_can_begin_in_the_middle_and_leap() -> None:
    pages = pages_of()
    hold = WindowHold(pages, is_shared=True)
    hold.slide(BLOCKS, 16, 4)
    assert hold.claimed(BLOCKS) == (9, 1)
    hold.slide(BLOCKS, 28, 8)
    assert hold.claimed(BLOCKS) == (2, 6, 4), "what lies between was never claimed"
    hold.slide(BLOCKS, 28, 7)
    assert hold.claimed(BLOCKS) == (2, 6, 4), "room that was claimed stays"


@pytest.mark.parametrize(("is_shared", "is_held"), [(True, True), (False, False)])
def test_what_was_slid_past_is_kept_where_others_may_find_it(is_shared: bool, is_held: bool) -> None:
    pages = pages_of()
    hold = WindowHold(pages, is_shared=is_shared)
    hold.slide(BLOCKS, 0, 1)
    hold.slide(BLOCKS, 9, 3)
    assert pages.is_held(BLOCKS[0]) == is_held


def test_room_is_counted_up_to_the_quota() -> None:
    pages = pages_of(num_pages=4)
    first, second = WindowHold(pages, is_shared=True), WindowHold(pages, is_shared=True)
    first.reserve(2)
    assert [second.has_room(count) for count in (1, 2, 3, 8)] == [True, True, False, False]
    first.reserve(8)
    assert first.has_room(8), "it was promised all that it may need"
    assert not second.has_room(2)
    with pytest.raises(AssertionError, match="room was not looked for"):
        second.reserve(2)
    first.release(BLOCKS)
    assert second.has_room(8)


def test_of_a_released_run_the_latest_gives_way_first() -> None:
    pages = pages_of(num_pages=3)
    hold = WindowHold(pages, is_shared=True)
    hold.slide(BLOCKS, 0, 3)
    hold.release(BLOCKS)
    pages.claim(0)
    assert [pages.is_held(block) for block in BLOCKS[:3]] == [True, True, False]


def test_a_block_that_became_another_keeps_its_page() -> None:
    pages = pages_of()
    hold = WindowHold(pages, is_shared=True)
    hold.slide(BLOCKS, 0, 2)
    page = int(pages.page_of[3])
    hold.moved(3, 5)
    moved = [7, 5, *BLOCKS[2:]]
    assert int(pages.page_of[5]) == page
    pages.reserve(2)
    pages.check([hold.claimed(moved)])
