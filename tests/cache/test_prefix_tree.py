from __future__ import annotations

from dataclasses import fields, replace

import pytest

from cynosure.cache import CacheKey, MatchEnd, PagePool, PrefixTree, WindowPages

KEY = CacheKey("ann", "tiny", "float32")
#: Another value for every field of a key.
OTHERS: dict[str, object] = {
    "tenant": "bob",
    "model": "huge",
    "dtype": "bfloat16",
    "adapter": "polite",
    "bias": ((0, 4, float("-inf")),),
    "media": ("sha256:1",),
    "visibility": ("doc 1 apart",),
    "group": "one request",
    "is_reproducible": True,
}
TEXT = list(range(10))


@pytest.fixture
def tree() -> PrefixTree:
    return PrefixTree(PagePool(8), block_size=4)


def keep(tree: PrefixTree, key: CacheKey, token_ids: list[int]) -> tuple[int, ...]:
    """Fill fresh pages with `token_ids`, and let them go; the pages in which they are found."""
    num_full = len(token_ids) // 4
    assert tree.make_room(num_full)
    blocks = tree.insert(key, token_ids, tree.pool.allocate(num_full) or ())
    tree.pool.release(blocks)
    tree.check([])
    return blocks


def found(tree: PrefixTree, key: CacheKey, token_ids: list[int]) -> tuple[tuple[int, ...], MatchEnd]:
    match = tree.match(key, token_ids)
    assert match.num_tokens == 4 * len(match.blocks)
    tree.check([match.blocks])
    tree.pool.release(match.blocks)
    return match.blocks, match.end


def test_full_pages_are_found_again(tree: PrefixTree) -> None:
    blocks = keep(tree, KEY, TEXT)
    assert len(blocks) == 2
    assert found(tree, KEY, TEXT) == (blocks, MatchEnd.PROMPT_END)
    assert found(tree, KEY, [*TEXT, 77, 78, 79]) == (blocks, MatchEnd.NEW_TOKENS)
    assert found(tree, KEY, [*TEXT[:4], 77, *TEXT[5:]]) == (blocks[:1], MatchEnd.NEW_TOKENS)
    assert found(tree, KEY, [77, *TEXT[1:]]) == ((), MatchEnd.NEW_TOKENS)


@pytest.mark.parametrize(
    ("length", "num_found"), [(0, 0), (1, 0), (3, 0), (4, 0), (5, 1), (8, 1), (9, 2), (10, 2)]
)
def test_the_last_token_is_always_computed_again(tree: PrefixTree, length: int, num_found: int) -> None:
    blocks = keep(tree, KEY, TEXT)
    assert found(tree, KEY, TEXT[:length]) == (blocks[:num_found], MatchEnd.PROMPT_END)


def test_every_field_of_the_key_keeps_apart(tree: PrefixTree) -> None:
    keep(tree, KEY, TEXT)
    assert OTHERS.keys() == {field.name for field in fields(CacheKey)}
    for name, value in OTHERS.items():
        assert found(tree, replace(KEY, **{name: value}), TEXT) == ((), MatchEnd.NEW_KEY)
    assert found(tree, replace(KEY), TEXT)[0], "the control: an equal key finds them"


def test_tokens_are_compared_and_not_their_hashes(tree: PrefixTree) -> None:
    """-1 and -2 have one hash; no vocabulary holds them, but pages of equal hashes must not be one."""
    assert hash((-1, -1, -1, -1)) == hash((-2, -1, -1, -1))
    first = keep(tree, KEY, [-1, -1, -1, -1])
    second = keep(tree, KEY, [-2, -1, -1, -1])
    assert first != second
    assert found(tree, KEY, [-2, -1, -1, -1, 0])[0] == second


def test_who_fills_the_same_tokens_second_moves_to_the_first_one_s_page(tree: PrefixTree) -> None:
    first, second = tree.pool.allocate(2) or (), tree.pool.allocate(2) or ()
    assert tree.insert(KEY, TEXT[:4], first) == first
    assert tree.insert(KEY, TEXT[:8], second) == (first[0], second[1])
    tree.check([first, (first[0], second[1])])
    assert tree.insert(KEY, TEXT[:8], first) == (first[0], second[1])
    assert tree.pool.num_free == 6


def test_the_least_recently_used_gives_way_leaves_first(tree: PrefixTree) -> None:
    old, new = keep(tree, KEY, TEXT), keep(tree, KEY, [*TEXT[:4], 5, 5, 5, 5])
    other = keep(tree, replace(KEY, tenant="bob"), TEXT)
    assert old[0] == new[0]
    assert tree.retained == (old[1], new[1], new[0], other[1], other[0])
    found(tree, KEY, TEXT)
    assert tree.retained == (new[1], other[1], other[0], old[1], old[0])
    assert tree.make_room(4)
    assert found(tree, KEY, [*TEXT[:4], 5, 5, 5, 5, 0]) == (old[:1], MatchEnd.EVICTED)
    assert found(tree, replace(KEY, tenant="bob"), TEXT)[0] == other
    assert tree.make_room(8)
    assert tree.pool.num_free == 8
    assert found(tree, KEY, TEXT) == ((), MatchEnd.EVICTED)
    assert found(tree, replace(KEY, tenant="eve"), TEXT) == ((), MatchEnd.NEW_KEY)
    keep(tree, KEY, TEXT)
    assert found(tree, KEY, [*TEXT[:4], 6, 6, 6, 6, 6])[1] is MatchEnd.NEW_TOKENS


def test_used_and_pinned_pages_do_not_give_way(tree: PrefixTree) -> None:
    keep(tree, KEY, TEXT)
    pin = tree.pin(KEY, TEXT[:8])
    pinned = pin.blocks
    assert len(pinned) == 2, "a pin may cover the last token"
    other = keep(tree, KEY, [9] * 8)
    used = tree.match(KEY, [9] * 6)
    assert not tree.make_room(6)
    assert set(tree.retained) == {*pinned, *other}, "a demand that can't be met evicts nothing"
    assert tree.make_room(5)
    assert set(tree.retained) == {*pinned, *used.blocks}
    tree.check([used.blocks])
    tree.unpin(pin)
    tree.pool.release(used.blocks)
    assert tree.make_room(8)


def test_a_pin_is_let_go_once(tree: PrefixTree) -> None:
    keep(tree, KEY, TEXT)
    pin, twin = tree.pin(KEY, TEXT), tree.pin(KEY, TEXT)
    tree.unpin(pin)
    with pytest.raises(ValueError, match="not in list"):
        tree.unpin(pin)
    tree.unpin(twin)
    tree.check([])


def test_what_is_forgotten_is_not_found_though_it_is_used(tree: PrefixTree) -> None:
    keep(tree, KEY, TEXT)
    other = keep(tree, replace(KEY, tenant="bob"), TEXT)
    used = tree.match(KEY, TEXT).blocks
    tree.forget(lambda key: key.tenant == "ann")
    assert found_with(tree, used) == (0, 8)
    assert tree.retained == (other[1], other[0])
    assert tree.pool.num_free == 4
    tree.pool.release(used)
    tree.check([])
    assert tree.pool.num_free == 6


def found_with(tree: PrefixTree, used: tuple[int, ...]) -> tuple[int, int]:
    tree.check([used])
    return tree.peek(KEY, TEXT), tree.peek(replace(KEY, tenant="bob"), TEXT)


def test_statistics_count_pages_and_reasons(tree: PrefixTree) -> None:
    found(tree, KEY, TEXT)
    keep(tree, KEY, TEXT)
    found(tree, KEY, TEXT)
    found(tree, KEY, [*TEXT[:4], 7, 7, 7, 7, 7])
    assert tree.peek(KEY, TEXT) == 8, "and a peek counts for nothing"
    tree.make_room(8)
    seen = tree.statistics
    assert (seen.num_hits, seen.num_misses, seen.num_evicted) == (3, 3, 2)
    assert seen.ends == {MatchEnd.NEW_KEY: 1, MatchEnd.PROMPT_END: 1, MatchEnd.NEW_TOKENS: 1}


def test_the_check_notices_a_leak(tree: PrefixTree) -> None:
    keep(tree, KEY, TEXT)
    tree.check([])
    tree.match(KEY, TEXT)
    with pytest.raises(AssertionError, match="sequences and pins hold"):
        tree.check([])


def windowed() -> tuple[PrefixTree, WindowPages]:
    """Twelve pages; the next token looks at five others, whose pages are four."""
    window = WindowPages(6, 4, 12, block_size=4, max_step=4)
    return PrefixTree(PagePool(12, [window]), block_size=4), window


def filled(tree: PrefixTree, window: WindowPages, held: list[int]) -> tuple[int, ...]:
    """The pages of five times four tokens, of which these are held in the window's layers."""
    blocks = tree.pool.allocate(5) or ()
    tree.insert(KEY, LONG, blocks)
    for index in held:
        window.claim(blocks[index])
        window.unclaim(blocks[index], is_of_use=True)
    tree.pool.release(blocks)
    return blocks


LONG = list(range(20))


@pytest.mark.parametrize(
    ("held", "num_found", "end"),
    [
        ([0, 1, 2, 4], 3, MatchEnd.WINDOW_EVICTED),
        ([3, 4], 5, MatchEnd.PROMPT_END),
        ([0, 2, 3], 4, MatchEnd.WINDOW_EVICTED),
        ([0], 1, MatchEnd.WINDOW_EVICTED),
        ([], 0, MatchEnd.WINDOW_EVICTED),
    ],
)
def test_a_match_ends_where_all_that_is_seen_is_held(held: list[int], num_found: int, end: MatchEnd) -> None:
    """After whole pages of four, a window of six begins in the last but one of them."""
    tree, window = windowed()
    blocks = filled(tree, window, held)
    assert tree.peek(KEY, [*LONG, 99]) == 4 * num_found
    assert tree.num_known(KEY, LONG) == 5
    match = tree.match(KEY, [*LONG, 99])
    assert (match.blocks, match.end) == (blocks[:num_found], end)
    assert tree.statistics.num_hits == num_found
    assert tree.statistics.num_misses == 5 - num_found


def test_a_pin_keeps_what_the_next_token_looks_at_where_there_is_room() -> None:
    tree, window = windowed()
    blocks = filled(tree, window, [2, 3, 4])
    pin = tree.pin(KEY, LONG)
    assert pin.claimed == (blocks[3:],)
    assert (window.num_claimed, window.num_unreserved) == (2, 2)
    tree.check([])
    tree.unpin(pin)
    assert (window.num_claimed, window.num_unreserved) == (0, 4)
    assert window.reserve(3)
    pin = tree.pin(KEY, LONG)
    assert pin.claimed == ((),)
    tree.unpin(pin)


def test_a_page_that_gives_way_takes_that_of_the_window_along() -> None:
    tree, window = windowed()
    filled(tree, window, [3, 4])
    assert tree.make_room(8)
    assert window.num_available == 4
    assert [window.is_held(block) for block in tree.retained] == [True, False, False, False]
    tree.forget(lambda key: True)
    window.check([])
    assert all(page == window.nowhere for page in window.page_of[:-1])
