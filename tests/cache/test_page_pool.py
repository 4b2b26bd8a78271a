from __future__ import annotations

import pytest

from cynosure.cache import PagePool
from cynosure.core.errors import InputError


@pytest.fixture
def pool() -> PagePool:
    return PagePool(4)


def test_pages_are_given_once_all_or_none(pool: PagePool) -> None:
    first, second = pool.allocate(3), pool.allocate(1)
    assert first is not None
    assert second is not None
    assert {*first, *second} == {0, 1, 2, 3}
    assert pool.allocate(1) is None
    assert pool.allocate(0) == ()
    pool.release(first[:2])
    assert pool.allocate(3) is None
    assert pool.num_free == 2
    pool.check([first[2:], second])


def test_a_shared_page_is_free_after_its_last_release(pool: PagePool) -> None:
    [block] = pool.allocate(1) or ()
    assert pool.is_exclusive(block)
    pool.share([block])
    assert not pool.is_exclusive(block)
    pool.check([[block], [block]])
    pool.release([block])
    assert pool.is_exclusive(block)
    pool.release([block])
    pool.check([])
    assert pool.num_free == 4


def test_a_retained_page_turns_idle_serves_again_and_gives_way(pool: PagePool) -> None:
    [block] = pool.allocate(1) or ()
    pool.retain(block)
    assert not pool.is_exclusive(block)
    assert (pool.num_free, pool.num_idle, pool.num_available) == (3, 0, 3)
    pool.release([block])
    assert (pool.num_free, pool.num_idle, pool.num_available) == (3, 1, 4)
    pool.check([], [block])
    pool.share([block])
    assert pool.num_idle == 0
    pool.release([block])
    pool.evict(block)
    assert (pool.num_free, pool.num_idle) == (4, 0)
    pool.check([])


def test_a_used_page_that_is_no_longer_retained_stays_used(pool: PagePool) -> None:
    [block] = pool.allocate(1) or ()
    pool.retain(block)
    pool.evict(block)
    assert pool.num_free == 3
    pool.release([block])
    assert pool.num_free == 4


@pytest.mark.parametrize("action", ["release", "share", "retain", "evict"])
def test_nothing_can_be_done_to_a_free_page(pool: PagePool, action: str) -> None:
    with pytest.raises(AssertionError):
        {
            "release": lambda: pool.release([1]),
            "share": lambda: pool.share([1]),
            "retain": lambda: pool.retain(1),
            "evict": lambda: pool.evict(1),
        }[action]()


def test_the_check_notices_each_kind_of_damage(pool: PagePool) -> None:
    [block] = pool.allocate(1) or ()
    pool.check([[block]])
    for tables, retained in [([], []), ([[block, block]], []), ([[block]], [block])]:
        with pytest.raises(AssertionError):
            pool.check(tables, retained)
    vars(pool)["_free"].append(block)
    with pytest.raises(AssertionError, match="1 times free and is held"):
        pool.check()
    vars(pool)["_free"][:] = [1, 2]
    with pytest.raises(AssertionError, match="0 times free and is not held"):
        pool.check()


def test_a_pool_without_pages_is_refused() -> None:
    with pytest.raises(InputError, match="num_blocks is 0"):
        PagePool(0)
