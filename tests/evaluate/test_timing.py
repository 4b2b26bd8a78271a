from __future__ import annotations

import pytest

from cynosure.evaluate.timing import Timing, percentile, summarise


def test_times_of_one_answer() -> None:
    timing = Timing(begun_s=10.0, first_s=10.5, last_s=12.5, num_prompt_tokens=8, num_tokens=5)
    assert timing.ttft_s == 0.5
    assert timing.tpot_s == 0.5
    assert Timing(0.0, 1.0, 1.0, 8, 1).tpot_s is None


def test_rates_are_over_the_whole_load_and_not_over_one_answer() -> None:
    found = summarise([Timing(0.0, 1.0, 3.0, 100, 11), Timing(0.0, 2.0, 4.0, 100, 21)], num_failed=3)
    assert (found.num_answers, found.num_failed) == (2, 3)
    assert found.prefill_tokens_per_s == pytest.approx(100.0)
    assert found.tokens_per_s == pytest.approx(32 / 4.0)
    assert found.requests_per_s == pytest.approx(0.5)
    assert (found.ttft_p50_s, found.ttft_p99_s) == (1.0, 2.0)
    assert (found.tpot_p50_s, found.tpot_p99_s) == (pytest.approx(0.1), pytest.approx(0.2))


def test_answers_of_one_token_have_no_time_a_token() -> None:
    assert summarise([Timing(0.0, 1.0, 1.0, 4, 1)]).tpot_p50_s is None


@pytest.mark.parametrize(("share", "value"), [(1, 1), (50, 2), (51, 3), (75, 3), (99, 4), (100, 4)])
def test_percentiles_are_values_that_were_measured(share: int, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value
