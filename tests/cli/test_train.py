from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli import train
from cynosure.cli.main import main
from cynosure.train import Recipe
from cynosure.train.tiny_decoder import Shape


def test_a_model_is_trained_and_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = Shape(
        vocab_size=300, hidden_size=128, intermediate_size=128, num_layers=1, num_heads=2, num_kv_heads=1
    )
    monkeypatch.setattr(train, "DEFAULT", Recipe(shape, num_seqs=2, seq_len=32))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index in range(60):
        (corpus / f"m{index}.py").write_text("def centre(of, attention):\n    return of[attention]\n" * 9)
    out = tmp_path / "model"
    given = ["train", "tiny", "--out", str(out), "--corpus", str(corpus), "--steps", "3", "--float32"]
    assert main(given) == 1
    assert "tokens; the model has 300" in capsys.readouterr().err
    for index in range(60):
        (corpus / f"m{index}.py").write_text(Path(train.__file__).read_text())
    assert main(given) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    assert main(["complete", "--model", str(out), "--max-tokens", "4", "def "]) == 0
    assert main(given) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
