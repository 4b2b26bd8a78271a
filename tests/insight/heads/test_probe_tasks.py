"""What a probe's targets are can be read off its tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cynosure.core.errors import InputError
from cynosure.insight.heads.probe_tasks import (
    MAX_TOKENS,
    NEAR,
    ProbeCase,
    Vocabulary,
    copied_case,
    local_cases,
    needle_cases,
    repeated_cases,
    sink_cases,
)

PLAIN = Vocabulary(tuple(range(10, 110)))
LED = Vocabulary(tuple(range(10, 110)), leading=(1,))
Make = Callable[..., tuple[ProbeCase, ...]]
EVERY = (sink_cases, local_cases, repeated_cases, needle_cases)


@pytest.mark.parametrize("vocabulary", [PLAIN, LED])
@pytest.mark.parametrize("make", EVERY)
def test_cases_are_of_ordinary_tokens_and_not_long(make: Make, vocabulary: Vocabulary) -> None:
    cases = make(vocabulary, 40, 0)
    assert len(cases) == 40
    for case in cases:
        assert len(case.token_ids) <= MAX_TOKENS
        assert case.token_ids[: len(vocabulary.leading)] == vocabulary.leading
        assert set(case.token_ids[len(vocabulary.leading) :]) <= set(vocabulary.ordinary)
        assert len(case.rows) == len(case.targets)
        assert all(0 <= key <= row for row, keys in zip(case.rows, case.targets, strict=True) for key in keys)
    assert make(vocabulary, 40, 0) == cases != make(vocabulary, 40, 1)


@pytest.mark.parametrize("vocabulary", [PLAIN, LED])
@pytest.mark.parametrize("make", [repeated_cases, needle_cases])
def test_the_target_says_what_comes_next(make: Make, vocabulary: Vocabulary) -> None:
    for case in make(vocabulary, 40, 0):
        assert [row + 1 for row in case.rows] == list(range(case.first, len(case.token_ids)))
        for row, (target,) in zip(case.rows, case.targets, strict=True):
            assert case.token_ids[target] == case.token_ids[row + 1]
            # The only place where this token stands, and the one before it is this row's.
            assert case.token_ids[: row + 1].count(case.token_ids[target]) == 1
            assert case.token_ids[target - 1] == case.token_ids[row]


def test_no_distance_leads_to_the_target() -> None:
    for make in (repeated_cases, needle_cases):
        distances = {case.rows[0] - case.targets[0][0] for case in make(PLAIN, 40, 0)}
        assert len(distances) > 10


def test_a_needle_lies_in_any_document() -> None:
    places = {case.targets[0][0] * 4 // case.first for case in needle_cases(PLAIN, 60, 0)}
    assert places == {0, 1, 2, 3}


def test_places_of_texts() -> None:
    (sink,), (local,) = sink_cases(LED, 1, 0), local_cases(LED, 1, 0)
    assert set(sink.targets) == {(0,)}
    assert all(
        keys == tuple(range(row - NEAR + 1, row + 1))
        for row, keys in zip(local.rows, local.targets, strict=True)
    )


def test_too_few_tokens_are_refused() -> None:
    Vocabulary(tuple(range(MAX_TOKENS)))
    with pytest.raises(InputError, match=f"has {MAX_TOKENS - 1} ordinary tokens; probes need {MAX_TOKENS}"):
        Vocabulary((*range(MAX_TOKENS - 1), 0))


def test_what_is_copied_may_stand_in_more_than_one_place() -> None:
    case = copied_case([1, 5, 6, 2, 5, 6, 3], [9, 5, 6, 8], 1, 3)
    assert case is not None
    assert case.token_ids == (1, 5, 6, 2, 5, 6, 3, 9, 5, 6)
    assert (case.rows, case.targets, case.first) == ((7, 8), ((1, 4), (2, 5)), 8)
    assert copied_case([1, 5, 6], [5, 7], 0, 2) is None
    assert copied_case([1, 5, 6], [5, 7], 1, 1) is None
    assert copied_case([], [5], 0, 1) is None
