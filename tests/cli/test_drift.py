from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cynosure.cli.main import main
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.records.oversight import Oversight
from tests.insight.drift_world import answers
from tests.server.fakes import services, serving
from tests.server.keyrings import ADMIN, ANNA, guarded


@pytest.fixture(scope="module")
def board() -> DriftBoard:
    board = DriftBoard()
    for answer in answers(1, 500):
        board.add("org/model [1]", "cafe", answer, 0.0)
    return board


@pytest.fixture(scope="module")
def url(board: DriftBoard) -> Iterator[str]:
    with serving(lambda _: services(), oversight=Oversight(drift=board)) as address:
        yield address


def test_a_board_is_shown_and_a_reference_frozen(
    url: str, board: DriftBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drift", "show", "--url", url]) == 0
    assert "org/model [1]: 500 answers, no reference; one needs 500" in capsys.readouterr().out
    assert main(["drift", "freeze", "org/model [1]", "--url", url]) == 0
    said = capsys.readouterr().out
    assert "org/model [1]: reference of 500 answers" in said
    assert "start it with --drift FOLDER" in said
    for answer in answers(2, 100):
        board.add("org/model [1]", "cafe", answer, 0.0)
    assert main(["drift", "show", "--url", url]) == 0
    assert "watching, 100 answers since the reference" in capsys.readouterr().out
    for answer in answers(3, 100, {"entropy": 1.0}):
        board.add("org/model [1]", "cafe", answer, 0.0)
    assert main(["drift", "show", "--url", url]) == 1
    assert "entropy of attention: more than answers" in capsys.readouterr().out
    assert main(["drift", "show", "--json", "--url", url]) == 1
    assert json.loads(capsys.readouterr().out)["models"][0]["state"] == "alarm"


def test_what_goes_wrong_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "freeze", "none", "--url", url]) == 1
    assert "no answer of a model 'none' was watched" in capsys.readouterr().err
    assert main(["drift", "show", "--url", "http://127.0.0.1:9"]) == 1
    assert "no Cynosure server answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main(["drift", "show", "--url", "file:///etc/hosts"]) == 1
    assert "begins with http://" in capsys.readouterr().err


def test_an_admins_key_is_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded() as url:
        assert main(["drift", "show", "--url", url, "--api-key", ANNA]) == 1
        assert "admin" in capsys.readouterr().err
        monkeypatch.setenv("CYNOSURE_API_KEY", ADMIN)
        assert main(["drift", "show", "--url", url]) == 0
        assert "No answer was watched yet" in capsys.readouterr().out
