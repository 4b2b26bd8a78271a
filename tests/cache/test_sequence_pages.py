from __future__ import annotations

import pytest

from cynosure.cache import CacheKey, PagePool, PrefixTree, SequencePages, WindowPages

KEY = CacheKey("ann", "tiny", "float32")
TEXT = list(range(10))


class Scene:
    """Pages, and the copies that were asked for."""

    def __init__(self, num_blocks: int) -> None:
        self.tree = PrefixTree(PagePool(num_blocks), block_size=4)
        self.copies: list[tuple[int, int]] = []

    def begin(self, token_ids: list[int], key: CacheKey | None = KEY) -> SequencePages:
        pages = SequencePages(self.tree, key, lambda source, to: self.copies.append((source, to)))
        pages.reuse(token_ids)
        assert pages.reserve(len(token_ids) - pages.num_tokens)
        pages.fill(token_ids)
        return pages


@pytest.fixture
def scene() -> Scene:
    return Scene(8)


def test_the_next_turn_reuses_all_but_less_than_a_page(scene: Scene) -> None:
    scene.begin(TEXT).release()
    pages = SequencePages(scene.tree, KEY, scene.tree.check)
    match = pages.reuse([*TEXT, 11, 12, 13])
    assert match is not None
    assert match.num_tokens == pages.num_tokens == 8
    assert pages.num_missing(5) == 2
    scene.tree.check([pages.blocks])


def test_a_fork_copies_the_page_that_is_partly_filled_and_no_other(scene: Scene) -> None:
    first = scene.begin(TEXT)
    second = first.fork()
    assert second.blocks == first.blocks
    common = first.blocks[2]
    assert second.reserve(1)
    assert scene.copies == [(common, second.blocks[2])]
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != common
    assert first.reserve(1), "the other one has it alone by now"
    assert len(scene.copies) == 1
    scene.tree.check([first.blocks, second.blocks])


def test_a_fork_at_the_edge_of_a_page_copies_nothing(scene: Scene) -> None:
    first = scene.begin(TEXT[:8])
    second = first.fork()
    assert first.reserve(3)
    assert second.reserve(3)
    assert not scene.copies
    assert first.blocks[:2] == second.blocks[:2]
    assert first.blocks[2] != second.blocks[2]


def test_a_known_page_is_copied_before_it_is_written_over(scene: Scene) -> None:
    pages = scene.begin(TEXT)
    known = pages.blocks[1]
    pages.crop(6)
    assert pages.blocks[1] == known
    assert pages.reserve(4)
    assert scene.copies == [(known, pages.blocks[1])]
    pages.fill([*TEXT[:6], 66, 67, 68, 69])
    pages.release()
    assert scene.tree.peek(KEY, [*TEXT[:8], 0]) == 8
    assert scene.tree.peek(KEY, [*TEXT[:6], 66, 67, 0]) == 8
    scene.tree.check([])


def test_without_room_nothing_changes(scene: Scene) -> None:
    pages = scene.begin(TEXT)
    scene.begin([5] * 12, key=None)
    blocks = pages.blocks
    assert not pages.reserve(2 + 4 * 2 + 1)
    assert pages.blocks == blocks
    assert pages.reserve(2 + 4 * 2)
    assert scene.tree.pool.num_available == 0


def test_a_copy_needs_room_too(scene: Scene) -> None:
    first = scene.begin(TEXT)
    second = first.fork()
    scene.begin([5] * 20, key=None)
    assert second.num_missing(1) == 1
    assert not second.reserve(1)
    first.release()
    assert second.num_missing(1) == 0
    assert second.reserve(1)


def test_a_private_sequence_is_never_found(scene: Scene) -> None:
    scene.begin(TEXT, key=None).release()
    assert scene.tree.pool.num_free == 8
    assert scene.tree.statistics.num_misses == 0


def test_a_released_sequence_begins_again_with_what_it_left(scene: Scene) -> None:
    pages = scene.begin(TEXT)
    pages.release()
    assert pages.blocks == ()
    match = pages.reuse([*TEXT, 10])
    assert match is not None
    assert match.num_tokens == 8
    assert pages.reserve(3)
    pages.fill([*TEXT, 10])
    scene.tree.check([pages.blocks])


def test_full_pages_cost_one_look_up_each_only_when_one_fills(scene: Scene) -> None:
    pages = scene.begin(TEXT[:4])
    other = scene.begin([9] * 4)
    before = scene.tree.retained
    assert before == (*pages.blocks, *other.blocks), "a look-up would make the first the latest"
    for length in range(5, 8):
        assert pages.reserve(1)
        pages.fill(TEXT[:length])
        assert scene.tree.retained == before
    assert pages.reserve(1)
    pages.fill(TEXT[:8])
    assert scene.tree.retained == (*other.blocks, *reversed(pages.blocks))


def windowed(num_pages: int = 6) -> tuple[Scene, WindowPages]:
    scene, window = Scene(12), WindowPages(5, num_pages, 12, block_size=4, max_step=4)
    scene.tree = PrefixTree(PagePool(12, [window]), block_size=4)
    return scene, window


def test_windows_are_held_from_the_pass_on_and_slid_past() -> None:
    scene, window = windowed()
    pages = SequencePages(scene.tree, KEY, scene.tree.check)
    assert pages.reserve(20)
    assert (window.num_claimed, window.num_unreserved) == (0, 6 - window.max_held)
    for start in range(0, 20, 4):
        pages.hold(4)
        pages.fill(list(range(start + 4)))
        assert pages.claimed == (pages.blocks[max(0, start - 4) // 4 : start // 4 + 1],)
        scene.tree.check([pages.blocks], [pages.claimed])
    pages.release()
    assert window.num_available == window.num_unreserved == 6
    scene.tree.check([], [])


def test_a_sequence_begins_with_what_its_window_needs() -> None:
    scene, _ = windowed()
    first = SequencePages(scene.tree, KEY, scene.tree.check)
    assert first.reserve(16)
    for start in range(0, 16, 4):
        first.hold(4)
        first.fill(list(range(start + 4)))
    first.release()
    second = SequencePages(scene.tree, KEY, scene.tree.check)
    match = second.reuse([*range(16), 99])
    assert match is not None
    assert match.num_tokens == 16
    assert second.claimed == (match.blocks[3:],)
    assert second.reserve(1)
    scene.tree.check([second.blocks], [second.claimed])


def test_without_room_in_a_window_nothing_changes() -> None:
    scene, window = windowed(num_pages=4)
    first = SequencePages(scene.tree, None, scene.tree.check)
    assert first.reserve(12)
    second = SequencePages(scene.tree, None, scene.tree.check)
    assert window.max_held == 3
    assert not second.reserve(8)
    assert (second.blocks, scene.tree.pool.num_free) == ((), 9)
    assert second.reserve(4)
    assert not second.reserve(5)
    first.release()
    assert second.reserve(5)


def test_who_fills_the_same_tokens_second_brings_a_page_that_was_lacking() -> None:
    scene, window = windowed()
    first, second = (SequencePages(scene.tree, KEY, scene.tree.check) for _ in range(2))
    for pages in (first, second):
        assert pages.reserve(8)
        pages.hold(8)
    first.fill(list(range(8)))
    first.release()
    known = scene.tree.retained
    window.forget(known[0])
    assert not window.is_held(known[0])
    second.fill(list(range(8)))
    assert set(second.blocks) == set(known)
    assert window.is_held(known[0])
    scene.tree.check([second.blocks], [second.claimed])


def test_where_there_are_windows_nothing_is_cropped_or_forked() -> None:
    scene, _ = windowed()
    pages = SequencePages(scene.tree, KEY, scene.tree.check)
    assert pages.reserve(8)
    pages.hold(8)
    pages.fill(list(range(8)))
    with pytest.raises(AssertionError, match="not kept"):
        pages.crop(5)
    with pytest.raises(AssertionError, match="one sequence's"):
        pages.fork()
