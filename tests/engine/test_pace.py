from __future__ import annotations

import pytest

from cynosure.engine.pace import Pace


def test_nothing_is_predicted_before_anything_was_seen() -> None:
    rates = Pace().rates
    assert rates.prefill_tokens_per_s is None
    assert rates.step_s is None


def test_a_prompts_speed_is_what_it_adds_to_a_step() -> None:
    pace = Pace()
    pace.note_step(0, 0.02)
    pace.note_step(100, 0.12)
    assert pace.rates.step_s == pytest.approx(0.02)
    assert pace.rates.prefill_tokens_per_s == pytest.approx(1000.0)


def test_a_step_that_took_less_than_a_decode_predicts_no_infinite_speed() -> None:
    pace = Pace()
    pace.note_step(0, 0.5)
    pace.note_step(10, 0.1)
    assert pace.rates.prefill_tokens_per_s == pytest.approx(1000.0)


def test_the_means_follow_what_is_new_slowly() -> None:
    pace = Pace()
    pace.note_answer(100)
    for _ in range(50):
        pace.note_answer(10)
    assert 10 < pace.rates.answer_tokens < 12


def test_turns_of_others_count_while_there_is_work() -> None:
    pace = Pace()
    pace.begin(10.0)
    pace.end(10.1, 0, was_work=True, is_more=True)
    assert pace.rates.step_s == pytest.approx(0.1)
    # Another model computed for 0.9 s before the next step.
    pace.begin(11.0)
    pace.end(11.1, 0, was_work=True, is_more=False)
    assert pace.rates.step_s == pytest.approx(0.1 + 0.1 * (1.0 - 0.1))


@pytest.mark.parametrize("how", ["ended", "rested", "broke"])
def test_idle_time_counts_to_no_step(how: str) -> None:
    pace = Pace()
    pace.begin(10.0)
    pace.end(10.1, 0, was_work=True, is_more=how != "ended")
    if how == "rested":
        pace.rest()
    if how == "broke":
        pace.begin(10.1)
    pace.begin(5000.0)
    pace.end(5000.1, 0, was_work=True, is_more=False)
    assert pace.rates.step_s == pytest.approx(0.1)


def test_a_step_that_computed_nothing_teaches_nothing() -> None:
    pace = Pace()
    pace.begin(10.0)
    pace.end(19.0, 0, was_work=False, is_more=False)
    assert pace.rates.step_s is None
