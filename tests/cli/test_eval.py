from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.cli.main import main

TEXT = "the centre of attention is where the eyes of all are fixed\n" * 4


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def measure(checkpoint: Path, text: Path, *more: str) -> int:
    return main(["eval", "perplexity", str(checkpoint), "--text", str(text), *more])


def test_a_table_and_its_fields(checkpoint: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(checkpoint, text, "--against", "int8,int8+kv-int8", "--window", "40") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["variant", "baseline", "int8", "int8+kv-int8"]
    assert all(line.endswith("%") for line in lines[2:])
    assert measure(checkpoint, text, "--against", "int8", "--window", "40", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in found] == ["baseline", "int8"]
    assert found[0]["change_percent"] == 0.0
    assert f"{found[1]['perplexity']:.4f}" in lines[2]
    assert f"over {found[0]['num_tokens']} tokens" in lines[0]


def test_less_of_a_text(checkpoint: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(checkpoint, text, "--max-tokens", "9", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["num_tokens"] == 8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--against", "int3"], "nothing can be compared with 'int3'"),
        (["--against", "int4-g128"], "no multiple of the group"),
        (["--window", "0"], "the window is 0"),
        (["--max-tokens", "1"], "the limit is 2"),
        (["--dtype", "int8"], "dtype 'int8' does not exist"),
    ],
)
def test_bad_options(
    checkpoint: Path, text: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(checkpoint, text, *more) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"), [(None, "can't be read"), (b"", "is empty"), (b"\xff", "no UTF-8")]
)
def test_bad_texts(
    checkpoint: Path, text: Path, data: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text.unlink()
    if data is not None:
        text.write_bytes(data)
    assert measure(checkpoint, text) == 1
    assert words in capsys.readouterr().err
