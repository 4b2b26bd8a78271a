"""What the engine takes, and when an answer ends."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import pytest

from cynosure.core.errors import EmptyInput, InputError
from cynosure.engine.request import Event, FinishReason, Request, TerminalEvent, finish_reason
from cynosure.engine.sampling import SamplingParams

REQUEST = Request("r", (1, 2, 3), SamplingParams(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": (1, -4)}, "token id -4"),
        ({"segments": (0, 0)}, "3 tokens and 2 segments"),
        ({"segments": (0, 1, 0)}, "not sorted"),
        ({"segments": (-1, 0, 0)}, "not sorted"),
        ({"arrival_s": math.nan}, "arrival_s"),
        ({"deadline_s": math.inf}, "deadline_s"),
    ],
)
def test_what_can_not_be_served_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(REQUEST, **change)


def test_a_request_has_tokens() -> None:
    with pytest.raises(EmptyInput, match="give at least one"):
        replace(REQUEST, token_ids=())


def test_sorted_segments_and_times_are_taken() -> None:
    request = replace(REQUEST, segments=(0, 0, 2), deadline_s=3.0)
    assert request.max_num_tokens == 7


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        ((5,), None),
        ((5, 5, 5, 5), FinishReason.LENGTH),
        ((9,), FinishReason.EOS),
        ((5, 7), FinishReason.STOP),
        ((7, 5), None),
        ((5, 5, 5, 9), FinishReason.EOS),
    ],
)
def test_the_last_token_ends_an_answer(generated: tuple[int, ...], expected: FinishReason | None) -> None:
    params = SamplingParams(4, stop_token_ids=(7,))
    assert finish_reason(params, {9}, generated) is expected


def test_an_end_token_may_be_ignored_and_a_stop_token_not() -> None:
    params = SamplingParams(4, stop_token_ids=(7,), ignore_eos=True)
    assert finish_reason(params, {9}, (9,)) is None
    assert finish_reason(params, {7}, (7,)) is FinishReason.STOP


def test_there_are_four_ways_to_end() -> None:
    assert {cls.__name__ for cls in get_args(TerminalEvent)} == {"Finished", "Refused", "Failed", "Cancelled"}
    assert set(get_args(TerminalEvent)) < set(get_args(Event))
