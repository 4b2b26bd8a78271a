from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cynosure.cli.editor.filling import Gap, Question
from cynosure.cli.editor.local_filler import LocalFiller
from cynosure.cli.main import main
from cynosure.server.services import Services
from tests.server.fakes import CREATED, serving

TEXT = "star = 1\n\ndef steer(pole):\n    return \n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(TEXT)
    return tmp_path / "code.py"


def complete(model: Path, place: str, *more: str) -> int:
    return main(["complete", place, "--model", str(model), "--dtype", "float32", *more])


def test_the_text_alone_is_printed(
    gap_model: Path, filler: LocalFiller, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = TEXT.index("return ") + len("return ")
    expected = asyncio.run(filler.fill(Question(Gap(TEXT, place), max_tokens=20))).text
    assert expected.strip()
    for given in (f"{file}:4", f"{file}:4:12"):
        assert complete(gap_model, given, "--any-names", "--max-tokens", "20") == 0
        assert capsys.readouterr().out == f"{expected}\n"


def test_all_fields_are_told(gap_model: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(gap_model, f"{file}:4:5", "--json", "--block", "--max-tokens", "30") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["line"], told["column"], told["offset"]) == (4, 5, TEXT.index("return"))
    assert (told["extent"], told["author"], told["model"]) == ("block", "model", str(gap_model))
    assert told["window"] == {"start": 0, "end": len(TEXT), "of": len(TEXT)}
    assert told["names"]["known"] > 100
    assert told["names"]["left_out"] == 0
    assert told["end"] in ("block", "length", "stop")
    assert 0 < told["timings_ms"]["first_token"] <= told["timings_ms"]["total"]
    assert 0 < told["num_tokens"] <= 30


def test_names_are_held_to_in_python_alone(
    gap_model: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "code.txt").write_text(TEXT)
    told = []
    for name in ("code.py", "code.txt"):
        assert complete(gap_model, f"{tmp_path / name}:4", "--json", "--max-tokens", "12") == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["names"] is not None
    assert told[1]["names"] is None


@pytest.fixture
def url(filler: LocalFiller) -> Iterator[str]:
    with serving(lambda report: Services({}, {}, {"tiny": filler.model}, CREATED), wait_s=60) as url:
        yield url


def test_a_server_may_compute(
    gap_model: Path, url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(gap_model, f"{file}:4", "--max-tokens", "20") == 0
    here = capsys.readouterr().out
    assert main(["complete", f"{file}:4", "--url", url, "--model", "tiny", "--max-tokens", "20"]) == 0
    assert capsys.readouterr().out == here


@pytest.mark.parametrize(
    ("place", "more", "words"),
    [
        ("absent.py:1", [], "no file absent.py"),
        ("{file}:9", [], "5 lines and no line 9"),
        ("{file}:4:99", [], "column 99 is none of 1 to 12"),
        ("{file}:1", ["--max-tokens", "0"], "the limit is 1"),
        ("{file}:1", ["--max-tokens", "600"], "Ask for fewer tokens"),
        ("{file}:1", ["--temperature", "1"], "--temperature is for a prompt"),
        ("{file}:1", ["--seed", "1"], "--seed is for a prompt"),
        ("{file}:1", ["--stop", "x"], "--stop is for a prompt"),
        ("{file}:1", ["--url", "http://127.0.0.1:1"], "Leave out what says how to compute"),
        ("the star", ["--block"], "--block is for a place in a file"),
        ("the star", ["--json"], "--json is for a place in a file"),
        ("the star", ["--any-names"], "--any-names is for a place in a file"),
    ],
)
def test_what_can_not_be_done_is_said(
    gap_model: Path, file: Path, place: str, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(gap_model, place.format(file=file), *more) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_a_model_that_can_not_fill_in_is_told(
    checkpoint: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(checkpoint, f"{file}:4") == 1
    assert "can't fill in" in capsys.readouterr().err
