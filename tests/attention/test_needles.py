"""Retrieve a passkey exactly where the arithmetic says so, with the circuit of `evals/needles.py`."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from cynosure.attention.page_choice import bounds_of
from evals import needles

LENGTH = 2_500
PATTERNS = tuple(pattern.replace("4096", "512") for pattern in needles.PATTERNS)
PLACES = (10, 63, 64, -30, -100, -512, -513, -1700)


@pytest.fixture(scope="module")
def results() -> list[needles.Trial]:
    return needles.trials(LENGTH, PATTERNS, PLACES)


def test_every_trial_is_as_the_arithmetic_says(results: list[needles.Trial]) -> None:
    assert [trial for trial in results if not trial.is_right] == []


def test_the_trials_hold_needles_that_must_and_that_must_not_be_found(results: list[needles.Trial]) -> None:
    kinds = Counter((trial.is_visible, trial.must_retrieve) for trial in results)
    assert kinds[True, True] >= 5
    assert kinds[True, False] >= 5
    assert kinds[False, False] >= 5


def test_the_edges_of_window_and_sinks_are_where_they_should_be(results: list[needles.Trial]) -> None:
    pattern = PATTERNS[1]
    seen = {
        trial.place: trial.retrieved for trial in results if trial.pattern == pattern and trial.must_retrieve
    }
    assert set(seen) == {10, 63, -30, -100, -512}
    assert all(seen.values())


def test_a_window_that_is_off_by_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the wrong mask and predict with the right one: the needle at the edge gives it away."""
    right = PATTERNS[1]
    wrong = right.replace("512", "511")
    original = needles.match
    monkeypatch.setattr(
        needles, "match", lambda tokens, known, pattern, *rest: original(tokens, known, wrong, *rest)
    )
    assert not needles.run(right, LENGTH, -512, 7.4, {}).is_right
    assert needles.run(right, LENGTH, -100, 7.4, {}).is_right


def test_chosen_pages_recall_what_the_arithmetic_says() -> None:
    results = needles.selected_trials(LENGTH, (10, -100, -1700), num_pages=8)
    assert [trial for trial in results if not trial.is_right] == []
    assert len([trial for trial in results if trial.recalled >= 0.99]) == 6
    assert all(trial.recalled < 0.8 for trial in results if trial.margin < 10)


def test_pages_chosen_without_bounds_miss_the_needle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needles, "bounds_of", lambda source: torch.zeros_like(bounds_of(source)))
    results = needles.selected_trials(LENGTH, (-1700,), num_pages=8)
    assert not any(trial.retrieved for trial in results if trial.margin > 10)


def test_a_passkey_in_the_sinks_is_found_at_128k() -> None:
    trial = needles.run(needles.PATTERNS[1], needles.LENGTH, 63, 11.3, {})
    assert trial.is_right
    assert trial.retrieved


def test_needles_are_found_in_pages_of_codes() -> None:
    results = needles.trials(LENGTH, PATTERNS, (10, -100), needles.CODES)
    assert [trial for trial in results if not trial.is_right] == []
    assert Counter(trial.must_retrieve for trial in results)[True] >= 4


def test_codes_that_are_too_coarse_lose_the_needle(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needles.run("Causal()", LENGTH, -100, 7.4, {}, needles.CODES).is_right
    monkeypatch.setattr("cynosure.cache.paged.why_not_native", lambda *given: "torch is to write")
    monkeypatch.setattr("cynosure.cache.paged.LARGEST_CODE", 3)
    results = needles.trials(LENGTH, PATTERNS[:1], needles.CODED_PLACES, needles.CODES)
    assert not all(trial.is_right for trial in results)
