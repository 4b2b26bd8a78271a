from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.cli.quantize import chosen_scheme
from cynosure.models.load import load


def test_a_folder_is_quantised_and_speaks(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "coded"
    assert main(["quantize", str(checkpoint), "--to", "int8", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: int8, ")
    assert "bits a weight" in told.out
    assert "Quantising" in told.err
    model = load(out)
    assert model.scheme is not None
    assert model.tokenizer is not None
    assert main(["complete", "--model", str(out), "--max-tokens", "4", "the centre of"]) == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to", "int8", "--group", "32"], "int8 has one scale a row"),
        (["--to", "int8", "--pure"], "int8 has one scale a row"),
        (["--to", "int4", "--group", "128"], "no multiple of the group of 128"),
    ],
)
def test_bad_options(
    checkpoint: Path, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(checkpoint), *more, "--out", str(tmp_path / "coded")]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [["--to", "int3"], ["--to", "int4", "--group", "64"]])
def test_other_codes_are_no_choice(given: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", "x", *given, "--out", str(tmp_path / "coded")])


def test_options_name_schemes() -> None:
    assert chosen_scheme("int8", None, False).name == "int8"
    assert chosen_scheme("int4", None, False).name == chosen_scheme("int4", 32, False).name == "int4"
    assert chosen_scheme("int4", 128, True).name == "int4-g128-pure"
