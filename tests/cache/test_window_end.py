from __future__ import annotations

from cynosure.cache.window_end import WindowEnd
from cynosure.cache.window_pages import WindowPages


def windows_of(*sizes: int, num_pages: int = 3) -> list[WindowPages]:
    return [WindowPages(size, num_pages, 10, block_size=4, max_step=4) for size in sizes]


def test_it_looks_at_the_end_alone() -> None:
    end = WindowEnd(windows_of(5, 9), num_tokens=24)
    assert end.first(6) == 4
    assert end.first(2) == 2
    assert WindowEnd((), 24).first(6) == 6
    assert [end.lacking(index, None) for index in range(3, 6)] == [(), (2,), (1, 2)]


def test_what_is_held_is_kept_and_the_rest_is_lacking() -> None:
    near, far = windows_of(5, 9)
    near.claim(7)
    near.unclaim(7, is_of_use=True)
    end = WindowEnd([near, far], 24)
    assert end.lacking(5, 7) == (2,)
    assert (near.num_claimed, far.num_claimed) == (1, 0)
    assert end.claim(7, (2,)) == (2,)
    assert far.num_claimed == 1
    end.release()
    assert (near.num_claimed, far.num_claimed) == (0, 0)
    assert near.is_held(7)
    assert far.is_held(7)


def test_nothing_is_claimed_where_no_page_is_to_be_had() -> None:
    (window,) = windows_of(9, num_pages=2)
    end = WindowEnd([window], 24)
    assert [end.claim(block, (1,)) for block in (1, 2, 3)] == [(1,), (1,), ()]
    assert end.claim(2, (1,)) == (1,), "it has one already"
    end.release()
    assert window.num_available == 2
