"""The command makes a folder that completes, and goes on with its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.cli import train_core_lm
from cynosure.cli.main import main
from cynosure.models.load import load
from cynosure.train.code_corpus import CodeCorpus, SourceFile
from cynosure.train.tiny_decoder import Shape

TINY = Shape(
    vocab_size=400, hidden_size=128, intermediate_size=128, num_layers=1, num_heads=4, num_kv_heads=2,
    max_model_len=96,
)  # fmt: skip
SOURCE = 'def function_{0}(first):\n    """Return {0} more than the first."""\n    return first + {0}\n\n\n'


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [SourceFile("library", f"m{n}.py", SOURCE.format(n) * 4) for n in range(80)]
    corpus = CodeCorpus(tuple(files[:-2]), (files[-2],), (files[-1],), 0, ())
    monkeypatch.setattr(train_core_lm, "read_code", lambda *_, **__: corpus)
    monkeypatch.setattr(train_core_lm, "SIZES", {"6m": TINY})


def test_a_run_by_steps_or_by_the_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    given = ["train", "core-lm", "--out", str(out), "--device", "cpu", "--batch", "2"]
    assert main([*given, "--steps", "3"]) == 0
    assert f"{out}: " in capsys.readouterr().out
    assert json.loads((out / "recipe.json").read_text())["num_steps"] == 3
    assert load(out).tokenizer is not None
    assert main([*given, "--minutes", "0.001"]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
    clocked = ["train", "core-lm", "--out", str(tmp_path / "clocked"), "--device", "cpu", "--batch", "2"]
    assert main([*clocked, "--minutes", "0.002"]) == 0
    assert json.loads((tmp_path / "clocked" / "recipe.json").read_text())["num_steps"] >= 1


def test_what_can_t_be_asked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "core-lm", "--out", str(tmp_path / "model")]
    with pytest.raises(SystemExit):
        main([*given, "--steps", "3", "--minutes", "1"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([*given, "--device", "cuda"]) == 1
    assert "torch finds no GPU" in capsys.readouterr().err
