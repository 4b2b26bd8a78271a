from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cynosure.core.errors import InputError, NotFound
from cynosure.insight.drift.drift_adwin import has_adwin
from cynosure.server.attended.drift_board import MAX_CHOICES, MAX_MODELS, DriftBoard
from cynosure.server.attended.drift_view import board_view
from tests.insight.drift_world import answers


def filled(folder: Path | None = None) -> DriftBoard:
    board = DriftBoard(folder)
    for answer in answers(1, 600):
        board.add("org/model", "cafe", answer, 0.0)
    for answer in answers(2, 5):
        board.add("org/model", "other heads", answer, 0.0)
    return board


def test_a_reference_is_frozen_of_the_usual_heads_and_a_shift_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = filled(tmp_path)
    reference = board.freeze("org/model", 7.0)
    assert (reference.num_answers, reference.heads, reference.made_s) == (600, "cafe", 7.0)
    for answer in answers(3, 100):
        board.add("org/model", "cafe", answer, 8.0)
    calm = board.numbers()["org/model"]
    assert not calm.is_alarm
    assert 0 < calm.largest < 1
    assert calm.psi["entropy"] < 0.5
    with caplog.at_level(logging.WARNING):
        for answer in answers(4, 100, {"entropy": 1.0}):
            board.add("org/model", "cafe", answer, 9.0)
    moved = board.numbers()["org/model"]
    assert (moved.is_alarm, moved.num_alarms) == (True, 1)
    assert moved.psi["entropy"] > 0.5
    assert "drift: org/model, at answer 1" in caplog.text

    told = board_view(board, 3).models[0]
    assert (told.state, told.num_answers, told.num_window) == ("alarm", 200, 200)
    assert told.alarm is not None
    assert told.alarm.name == "entropy"
    entropy = next(feature for feature in told.features if feature.name == "entropy")
    assert entropy.is_alarm
    assert entropy.psi is not None
    assert entropy.psi > 0.1
    assert [stratum.low for stratum in entropy.strata] == [None, 128]
    assert sum(stratum.num_window for stratum in entropy.strata) == 200
    assert len(entropy.history) == 4
    assert entropy.history[-1] - entropy.history[0] == pytest.approx(1, abs=0.3)
    assert (entropy.adwin is not None) == has_adwin()
    assert told.joint[-1].name == "joint_distance"

    # Another server takes up where this one was.
    later = DriftBoard(tmp_path)
    assert [one.digest for one in later.references] == [reference.digest]
    later.check({"org/model": "cafe", "another": "beef"})
    with pytest.raises(InputError, match="models that can be watched here: another"):
        later.check({"another": "beef"})
    with pytest.raises(InputError, match="of heads 'cafe'; this server has 'beef'"):
        later.check({"org/model": "beef"})


def test_answers_on_other_heads_are_not_compared_and_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    board = filled()
    board.freeze("org/model", 0.0)
    with caplog.at_level(logging.WARNING):
        for answer in answers(2, 3):
            board.add("org/model", "beef", answer, 0.0)
    assert caplog.text.count("other heads") == 1
    told = board_view(board, 0).models[0]
    assert (told.num_answers, told.num_left_out) == (0, 3)
    assert told.reference is not None
    assert not told.reference.is_kept


def test_what_cannot_be_frozen_is_refused() -> None:
    board = DriftBoard()
    with pytest.raises(NotFound, match="no answer of a model 'x' was watched"):
        board.freeze("x", 0.0)
    board.add("m", "cafe", answers(1, 1)[0], 0.0)
    with pytest.raises(InputError, match="1 watched answers of m"):
        board.freeze("m", 0.0)
    told = board_view(board, 0)
    assert (told.models[0].state, told.models[0].num_answers) == ("collecting", 1)


def test_a_damaged_file_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "m.drift.json").write_text("{}")
    with pytest.raises(InputError, match="no drift reference"):
        DriftBoard(tmp_path)


def test_models_and_choices_are_bounded() -> None:
    board, answer = DriftBoard(), answers(1, 1)[0]
    for at in range(MAX_MODELS + 5):
        board.add(f"m{at}", "cafe", answer, 0.0)
    for at in range(20):
        board.add("m0", f"heads {at}", answer, 0.0)
    told = board_view(board, 2)
    assert len(told.models) == MAX_MODELS
    assert told.num_dropped == 7
    with board.models() as models:
        assert len(models["m0"].recent) == MAX_CHOICES
