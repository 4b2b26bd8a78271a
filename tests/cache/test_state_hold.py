"""A sequence makes copies where they are worth it, and others find them once it says so."""

from __future__ import annotations

import pytest

from cynosure.cache.state_hold import StateHold
from cynosure.cache.state_slots import StateSlots
from cynosure.cache.state_store import StatePath

BLOCK = 8


@pytest.fixture
def slots() -> StateSlots:
    return StateSlots(2, 3, lambda source, to: None)


def begun(
    slots: StateSlots, edges: tuple[int, ...], answer_start: int = 100, is_shared: bool = True
) -> StateHold:
    hold = StateHold(slots, BLOCK, is_shared=is_shared)
    hold.begin(None, edges, answer_start)
    assert hold.has_room
    hold.reserve()
    return hold


def blocks(slots: StateSlots) -> list[int]:
    return [block for block in range(20) if slots.is_kept(block)]


@pytest.mark.parametrize(
    ("num_tokens", "num_new", "cuts"),
    [
        (0, 7, []),
        (0, 8, [8]),
        (0, 9, [8]),
        (0, 24, [8, 24]),
        (8, 16, [16]),
        (7, 1, [1]),
        (8, 8, []),
        (23, 1, [1]),
        (24, 9, []),
    ],
)
def test_copies_are_cut_at_the_edges_that_are_named(
    slots: StateSlots, num_tokens: int, num_new: int, cuts: list[int]
) -> None:
    hold = begun(slots, (8, 24))
    hold.hold(num_tokens, num_new)
    assert [count for count, _ in hold.path(num_tokens).copies] == cuts
    # A pass that is run again finds the same room.
    again = hold.path(num_tokens)
    hold.hold(num_tokens, num_new)
    assert hold.path(num_tokens) == again


def test_copies_are_found_once_they_are_kept(slots: StateSlots) -> None:
    hold = begun(slots, (8, 16))
    hold.hold(0, 12)
    assert not slots.num_copies
    hold.keep((11, 12), 12)
    assert blocks(slots) == [11]
    hold.hold(12, 5)
    # It broke: what has seen 16 tokens is not behind the first 12.
    hold.keep((11, 12, 13), 12)
    assert blocks(slots) == [11]
    hold.keep((11, 12, 13), 17)
    assert blocks(slots) == [11, 12]
    assert hold.lent == ()


def test_of_an_answer_the_newest_edge_is_kept(slots: StateSlots) -> None:
    hold = begun(slots, (8,), answer_start=10)
    table = tuple(range(10))
    hold.hold(0, 10)
    hold.keep(table, 10)
    for num_tokens in range(10, 40):
        hold.hold(num_tokens, 1)
        hold.keep(table, num_tokens + 1)
    assert blocks(slots) == [0, 4]
    slots.check([0], [])


def test_a_pass_over_many_tokens_of_an_answer_keeps_its_last_edge(slots: StateSlots) -> None:
    hold = begun(slots, (), answer_start=4)
    hold.hold(4, 30)
    assert [count for count, _ in hold.path(4).copies] == [28]


def test_what_nobody_can_find_is_given_back(slots: StateSlots) -> None:
    hold = begun(slots, (8, 16))
    hold.hold(0, 20)
    assert len(hold.lent) == 2
    hold.release()
    slots.check([], [])
    assert slots.num_free == 2
    assert hold.slot is None


def test_nothing_is_copied_where_nothing_is_shared(slots: StateSlots) -> None:
    hold = begun(slots, (8,), is_shared=False)
    hold.hold(0, 20)
    assert hold.path(0) == StatePath(0)


def test_without_room_a_copy_is_left_out(slots: StateSlots) -> None:
    for _ in range(3):
        assert slots.lend() is not None
    hold = begun(slots, (8,))
    hold.hold(0, 20)
    assert hold.path(0).copies == ()


def test_a_sequence_begins_with_what_is_kept() -> None:
    copied: list[tuple[int, int]] = []
    slots = StateSlots(1, 1, lambda source, to: copied.append((source, to)))
    first = begun(slots, (8,))
    assert not StateHold(slots, BLOCK, is_shared=True).has_room
    first.hold(0, 8)
    first.keep((5,), 8)
    first.release()
    second = StateHold(slots, BLOCK, is_shared=True)
    second.begin(5, (), 20)
    second.reserve()
    second.reserve()
    assert copied == [(1, 0)]
