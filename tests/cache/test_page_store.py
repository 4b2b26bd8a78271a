from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cynosure.cache import PageStore, page_store
from cynosure.core.errors import InputError

SECRET = b"s" * 32
PAGE = b"p" * 100
#: On disk: with its checksum.
PAGE_SIZE = 132


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


A, B = b"a" * 32, b"b" * 32


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Opened:
    """A store that can be opened again."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.store: PageStore | None = None

    def __call__(self, max_bytes: int = 10_000) -> PageStore:
        self.close()
        self.store = PageStore(self.folder, SECRET, max_bytes, self.clock)
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    opened = Opened(tmp_path / "cache", clock)
    yield opened
    opened.close()


def keep(store: PageStore, session: bytes, *numbers: int) -> None:
    names = [name(number) for number in numbers]
    assert store.keep(session, names, dict.fromkeys(store.missing(names), PAGE))
    store.flush()


def known(store: PageStore, *numbers: int) -> int:
    return store.num_known([name(number) for number in numbers])


def test_pages_are_found_after_a_restart(opened: Opened) -> None:
    keep(opened(), A, 1, 2, 3)
    store = opened()
    assert known(store, 1, 2, 3) == 3
    assert known(store, 1, 9, 3) == 1
    assert store.read(name(2), {len(PAGE)}) == PAGE
    assert store.read(name(9), {len(PAGE)}) is None


def test_what_is_common_is_there_once(opened: Opened) -> None:
    store = opened()
    keep(store, A, 1, 2)
    assert store.missing([name(1), name(2), name(3)]) == (name(3),)
    keep(store, B, 1, 2, 3)
    assert (store.statistics.num_sessions, store.statistics.num_pages) == (2, 3)


def test_the_next_turn_replaces_what_it_does_not_have(opened: Opened) -> None:
    store = opened()
    keep(store, A, 1, 2, 3)
    keep(store, A, 1, 2, 4)
    assert (known(store, 1, 2, 4), known(store, 3)) == (3, 0)
    assert opened().statistics.num_pages == 3


def test_the_session_that_was_used_least_recently_gives_way(opened: Opened, clock: Clock) -> None:
    store = opened(max_bytes=5 * PAGE_SIZE)
    keep(store, A, 1, 2)
    clock.now += 1
    keep(store, B, 1, 3)
    store.used(name(2))  # that is A
    keep(store, b"c" * 32, 4)
    assert (known(store, 1, 2), known(store, 3), known(store, 4)) == (2, 0, 1)
    assert store.statistics.num_bytes <= 5 * PAGE_SIZE
    on_disk = sum(
        path.stat().st_size for kind in ("pages", "sessions") for path in (opened.folder / kind).iterdir()
    )
    assert on_disk == store.statistics.num_bytes


def test_the_order_of_use_survives_a_restart(opened: Opened, clock: Clock) -> None:
    store = opened()
    for session, number in ((A, 1), (B, 2)):
        keep(store, session, number)
        clock.now += 10
    store.used(name(1))
    store = opened(max_bytes=2 * PAGE_SIZE)
    assert (known(store, 1), known(store, 2)) == (1, 0)


@pytest.mark.parametrize(("max_bytes", "num_pages"), [(1, 0), (63 + PAGE_SIZE, 0), (64 + PAGE_SIZE, 1)])
def test_of_a_session_that_is_too_large_the_beginning_is_kept(
    opened: Opened, max_bytes: int, num_pages: int
) -> None:
    store = opened(max_bytes)
    keep(store, A, 1, 2, 3)
    assert known(store, 1, 2, 3) == num_pages
    assert store.statistics.num_bytes <= max_bytes


def test_a_day_after_its_last_use_a_session_is_gone(opened: Opened, clock: Clock) -> None:
    store = opened()
    keep(store, A, 1)
    keep(store, B, 2)
    clock.now += page_store.MAX_AGE_S - 1
    store.used(name(2))
    clock.now += 2
    assert (known(store, 1), known(store, 2)) == (0, 1)
    assert len(list((opened.folder / "pages").iterdir())) == 1
    clock.now += page_store.MAX_AGE_S
    assert opened().statistics.num_sessions == 0


def test_a_spoilt_page_is_not_served_and_can_be_kept_again(opened: Opened) -> None:
    store = opened()
    keep(store, A, 1, 2)
    (opened.folder / "pages" / name(1).hex()).write_bytes(b"x" * PAGE_SIZE)
    assert store.read(name(1), {len(PAGE)}) is None
    assert store.read(name(2), {len(PAGE)}) == PAGE
    assert (store.statistics.num_read, store.statistics.num_spoilt) == (1, 1)
    assert known(store, 1, 2) == 0
    keep(store, A, 1, 2)
    assert known(opened(), 1, 2) == 2


def test_a_page_of_another_size_is_not_served(opened: Opened) -> None:
    store = opened()
    keep(store, A, 1)
    assert store.read(name(1), {len(PAGE) + 1}) is None


def test_foreign_files_and_what_nobody_has_are_not_counted(opened: Opened) -> None:
    keep(opened(), A, 1)
    opened.close()
    opened.store = None
    (opened.folder / "pages" / name(7).hex()).write_bytes(b"x" * PAGE_SIZE)
    (opened.folder / "pages" / "notes.txt").write_text("mine")
    (opened.folder / "sessions" / B.hex()).write_bytes(name(7) * 2)
    store = opened()
    assert (store.statistics.num_sessions, store.statistics.num_pages) == (1, 1)
    assert known(store, 7) == 0
    assert sorted(path.name for path in (opened.folder / "pages").iterdir()) == [name(1).hex(), "notes.txt"]


def test_a_list_whose_pages_are_gone_ends_where_they_do(opened: Opened) -> None:
    keep(opened(), A, 1, 2, 3)
    opened.close()
    opened.store = None
    (opened.folder / "pages" / name(2).hex()).unlink()
    store = opened()
    assert (known(store, 1, 2, 3), store.statistics.num_pages) == (1, 1)


def test_while_too_much_waits_nothing_is_taken(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_store, "MAX_PENDING_BYTES", len(PAGE))
    store = opened()
    assert not store.keep(A, [name(1), name(2)], {name(1): PAGE, name(2): PAGE})
    keep(store, A, 1)


def test_a_full_disk_loses_the_session_and_nothing_else(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    keep(store, A, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._files, "write", full)
    keep(store, B, 1, 2)
    assert (store.statistics.num_sessions, known(store, 1)) == (1, 1)
    monkeypatch.undo()
    keep(store, B, 1, 2)
    assert known(store, 1, 2) == 2


def test_a_bound_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the limit is 1"):
        PageStore(tmp_path, SECRET, 0)
