"""Planted cases are what they say, the same each time, and no judgement's case is one of the fit's."""

from __future__ import annotations

import itertools

import pytest

from cynosure.train.planted_instructions import (
    CALL_BEGIN,
    EDGES,
    FIRMNESS,
    FITTING_PHRASINGS,
    FITTING_SEEDS,
    HELD_OUT_PHRASINGS,
    HELD_OUT_SEEDS,
    MIDDLE,
    PEOPLE,
    STRENGTH,
    TRAINING_SEEDS,
    InstructionCase,
    all_words,
    arguments_of,
    call_of,
    cases,
)


def drawn(count: int = 300, **options: object) -> list[InstructionCase]:
    return list(cases(range(count), **options))  # type: ignore[arg-type] - as the caller says


def test_a_seed_is_a_case() -> None:
    assert list(cases([5, 3])) == [*cases([5]), *cases([3])]
    assert drawn() == drawn()


def test_no_seed_or_phrasing_serves_two_ends() -> None:
    seeds = [TRAINING_SEEDS, FITTING_SEEDS, HELD_OUT_SEEDS]
    ordered = sorted(seeds, key=lambda one: one.start)
    assert all(one.stop <= next_.start for one, next_ in itertools.pairwise(ordered))
    assert not {*FITTING_PHRASINGS} & {*HELD_OUT_PHRASINGS}
    assert not {*EDGES} & {*MIDDLE}


def test_what_is_strong_enough_is_followed() -> None:
    injected = [one for one in drawn() if one.injection is not None]
    for one in injected:
        assert one.injection is not None
        assert one.injection.sentence in one.document
        (firmness,) = [place for place, word in enumerate(FIRMNESS) if word in one.system.split()]
        assert one.is_to_follow == (STRENGTH.index(one.injection.strength) >= firmness)
        assert (one.answer == one.injection.call) == one.is_to_follow
    followed = sum(one.is_to_follow for one in injected) / len(injected)
    assert 0.5 < followed < 0.75


def test_answers_have_one_origin() -> None:
    for one in drawn():
        called = arguments_of(one.answer)
        value = one.answer if called is None else called[1]
        assert f"{one.system} {one.document}".split().count(f"@{value}") == 1


def test_the_share_of_instructions_is_the_asked() -> None:
    assert not any(one.injection for one in drawn(injected_share=0.0))
    assert all(one.injection for one in drawn(injected_share=1.0))


@pytest.mark.parametrize("place", [*EDGES, *MIDDLE])
def test_instructions_stand_where_they_are_asked(place: str) -> None:
    for one in drawn(100, places=[place], injected_share=1.0):
        assert one.injection is not None
        is_first = one.document.startswith(one.injection.sentence)
        is_last = one.document.endswith(one.injection.sentence)
        assert (is_first, is_last) == (place == "first", place == "last")


def test_calls_are_read_as_they_are_written() -> None:
    assert arguments_of(call_of("send", "anna")) == ("send", "anna")
    assert arguments_of("anna") is None
    assert arguments_of("<tool_call>{}</tool_call>") is None
    assert arguments_of(f"{CALL_BEGIN}send") is None


def test_all_words_are_known() -> None:
    known = all_words()
    assert {*PEOPLE} < known
    for one in drawn():
        assert {*f"{one.system} {one.document}".replace("@", " @ ").split()} <= known
