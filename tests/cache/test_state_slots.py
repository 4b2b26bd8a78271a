"""Slots are free, taken, lent or kept; copies give way to copies alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.cache.state_slots import StateSlots


@pytest.fixture
def copied() -> list[tuple[int, int]]:
    return []


@pytest.fixture
def slots(copied: list[tuple[int, int]]) -> StateSlots:
    """Two for sequences (0, 1), two for copies (2, 3)."""
    return StateSlots(2, 2, lambda source, to: copied.append((source, to)))


def kept(slots: StateSlots, block: int) -> int:
    slot = slots.lend()
    assert slot is not None
    slots.keep(block, slot)
    return slot


def test_sequences_and_copies_never_take_each_others_room(slots: StateSlots) -> None:
    assert {slots.take(), slots.take(), slots.take()} == {0, 1, None}
    assert {kept(slots, 7), kept(slots, 8)} == {2, 3}
    assert slots.num_free == 0
    slots.give(1)
    assert slots.take() == 1
    slots.check([0, 1])


def test_a_state_is_restored_from_behind_a_block(slots: StateSlots, copied: list[tuple[int, int]]) -> None:
    slot = kept(slots, 7)
    slots.restore(7, 0)
    assert copied == [(slot, 0)]
    assert slots.is_kept(7)
    assert not slots.is_kept(8)


def test_the_least_recently_used_copy_gives_way(slots: StateSlots) -> None:
    kept(slots, 7), kept(slots, 8)
    slots.restore(7, 0)
    kept(slots, 9)
    assert [slots.is_kept(block) for block in (7, 8, 9)] == [True, False, True]


def test_what_is_lent_gives_way_to_nobody(slots: StateSlots) -> None:
    lent = [slots.lend(), slots.lend()]
    assert slots.lend() is None
    assert None not in lent
    slots.drop(lent[0] or 0)
    assert slots.lend() == lent[0]


def test_of_two_copies_behind_a_block_the_newer_stays(slots: StateSlots) -> None:
    older, newer = kept(slots, 7), kept(slots, 7)
    assert older != newer
    slots.restore(7, 0)
    assert slots.num_copies == 1
    slots.check([], [])


def test_a_block_that_nobody_holds_is_forgotten(slots: StateSlots) -> None:
    kept(slots, 7)
    slots.forget(7)
    slots.forget(8)
    assert not slots.is_kept(7)
    assert kept(slots, 9) in (2, 3)


def test_without_room_nothing_is_lent() -> None:
    assert StateSlots(1, 0, lambda source, to: None).lend() is None


@pytest.mark.parametrize("taken", [[0, 0], [1], [0, 1, 1]])
def test_books_that_are_wrong_are_noticed(slots: StateSlots, taken: list[int]) -> None:
    assert slots.take() == 0
    slots.check([0])
    with pytest.raises(AssertionError):
        slots.check(taken)
    with pytest.raises(AssertionError, match="write to"):
        slots.check([0], [2])
    with pytest.raises(AssertionError, match="twice"):
        slots.give(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("tglkdf"), st.integers(0, 4)), max_size=40))
def test_every_slot_is_in_one_place_whatever_happens(steps: list[tuple[str, int]]) -> None:
    slots = StateSlots(3, 3, lambda source, to: None)
    taken: list[int] = []
    lent: list[int] = []
    for step, number in steps:
        if step == "t" and (slot := slots.take()) is not None:
            taken.append(slot)
        elif step == "g" and taken:
            slots.give(taken.pop(number % len(taken)))
        elif step == "l" and (slot := slots.lend()) is not None:
            lent.append(slot)
        elif step == "k" and lent:
            slots.keep(number, lent.pop())
        elif step == "d" and lent:
            slots.drop(lent.pop())
        elif step == "f":
            slots.forget(number)
        slots.check(taken, lent)
