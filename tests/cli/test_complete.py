from __future__ import annotations

import io
from pathlib import Path

import pytest
import transformers

from cynosure.cli.main import main
from cynosure.models.text.tokenizer import Tokenizer
from tests.cli.conftest import continuation

PROMPT = "the centre of"


def _complete(checkpoint: Path, *more: str, prompt: str = PROMPT) -> int:
    return main(["complete", "--model", str(checkpoint), "--dtype", "float32", *more, prompt])


def test_it_says_what_the_oracle_says(
    checkpoint: Path, oracle: transformers.LlamaForCausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _complete(checkpoint, "--max-tokens", "24") == 0
    expected = Tokenizer.from_folder(checkpoint).decode(continuation(oracle, PROMPT, 24))
    assert expected.strip()
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_prompt_may_come_from_standard_input(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _complete(checkpoint, "--max-tokens", "8")
    given = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(PROMPT))
    assert _complete(checkpoint, "--max-tokens", "8", prompt="-") == 0
    assert capsys.readouterr().out == given


def test_a_stop_text_ends_it(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _complete(checkpoint, "--max-tokens", "24")
    whole = capsys.readouterr().out
    stop = whole[6:8]
    assert _complete(checkpoint, "--max-tokens", "24", "--stop", stop) == 0
    assert capsys.readouterr().out == f"{whole[: whole.index(stop)]}\n"


def test_a_seed_draws_the_same_again(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for seed in ("1", "1", "2"):
        assert _complete(checkpoint, "--max-tokens", "12", "--temperature", "1.5", "--seed", seed) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--max-tokens", "0"], "the limit is 1"),
        (["--max-tokens", "500"], "limit is 128"),
        (["--temperature", "-1"], "at least 0"),
        (["--dtype", "float3"], "float3"),
        (["--backend", "abacus"], "no backend is called"),
        (["--stop", ""], "empty"),
    ],
)
def test_what_can_not_be_done_is_said(
    checkpoint: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _complete(checkpoint, *more) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_a_folder_that_is_not_there_and_an_empty_prompt(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _complete(tmp_path / "absent") == 1
    assert "absent" in capsys.readouterr().err
    assert _complete(checkpoint, prompt="") == 1
    assert "empty" in capsys.readouterr().err
