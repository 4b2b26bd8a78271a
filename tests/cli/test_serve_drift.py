from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.local_completer import load_completer
from cynosure.cli.serve_drift import add_drift_arguments, checked, drift_of, sentinels_of, with_drift
from cynosure.core.errors import InputError
from cynosure.insight import HeadChoice, WatchPolicy
from cynosure.insight.drift.drift_features import watched_digest
from cynosure.server.services import Services
from tests.insight.drift_world import answers
from tests.server.served_tiny import write_decoder

CHOICE = HeadChoice(((0, 1), (1, 2)), "a test chose them")


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_drift_arguments(parser)
    return parser.parse_args(given)


def test_a_folder_has_every_answer_watched(tmp_path: Path) -> None:
    options = ServeOptions(tmp_path)
    assert not with_drift(options, parsed()).insight.is_always
    assert with_drift(options, parsed("--drift", str(tmp_path))).insight.is_always
    assert not drift_of(parsed()).is_kept
    assert drift_of(parsed("--drift", str(tmp_path / "new"))).is_kept


def test_sentinels_are_read_from_a_file(tmp_path: Path) -> None:
    assert sentinels_of(parsed()) == ()
    file = tmp_path / "s.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}]}')
    assert [one.id for one in sentinels_of(parsed("--drift-sentinels", str(file)))] == ["line 1"]
    with pytest.raises(InputError, match="can't be read"):
        sentinels_of(parsed("--drift-sentinels", str(tmp_path / "none")))


def test_a_reference_of_other_heads_ends_the_start(tmp_path: Path) -> None:
    completer = load_completer("m", write_decoder(tmp_path / "model"), dtype="float32")
    completer.watching = WatchPolicy(CHOICE, is_always=True)
    services = replace(Services({}, {}, {"m": completer}, 0))
    board = drift_of(parsed())
    for answer in answers(1, 500):
        board.add("m", watched_digest(CHOICE), answer, 0.0)
    board.freeze("m", 0.0)
    assert checked(lambda report: services, board)(lambda stage, done, total: None) is services
    completer.watching = WatchPolicy(None, is_always=True)
    with pytest.raises(InputError, match="the drift reference is of heads"):
        checked(lambda report: services, board)(lambda stage, done, total: None)
