from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.main import main

MASK = "Causal & (Window(2) | Global(1))"


def test_a_mask_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--mask", MASK, "--size", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "■ · · ·",
        "■ ■ · ·",
        "■ ■ ■ ·",
        "■ · ■ ■",
        "Causal() & (Window(2) | Global(1)): 56.2% of 4 x 4 pairs may attend",
    ]


def test_a_mask_is_written_as_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mask.png"
    assert main(["explain", "--mask", MASK, "--size", "200", "--block", "16", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask", "Cuasal"], "Cuasal"),
        (["--mask", "Causal &"], "can't be read"),
        (["--mask", "__import__('os')"], "__import__"),
        (["--mask", "Causal", "--size", "0"], "1024"),
        (["--mask", "Causal", "--size", "97"], "at most 96"),
        (["--mask", "Causal", "--block", "0"], "--block is 0"),
        (["--mask", "Causal", "--out", "mask.jpg"], "only PNG"),
        (["--mask", "Causal", "--out", "/absent/mask.png"], "can't be written"),
    ],
)
def test_what_can_not_be_shown(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
