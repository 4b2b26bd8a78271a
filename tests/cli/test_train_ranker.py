from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.train import ranker_run
from cynosure.train.loop import Fitted, Report
from cynosure.train.pairs import PairData
from cynosure.train.ranker import RankerRecipe
from cynosure.train.ranker_check import RankerFigures
from cynosure.train.ranker_files import RankerRun

FIGURES = RankerFigures(9, 3, 0.75, 0.5, 0.5, 0.25, 0.25, 0.125, 8, 0.7, 0.6, 0.3, 0.5, 0.1, 0.9, 0.8)


@dataclass
class Made:
    """Notes what the recipe is asked for."""

    given: tuple[object, ...] = ()

    def make(
        self, out: Path, recipe: RankerRecipe, reference: Path | None, is_resumed: bool, report: Report
    ) -> RankerRun:
        report("Training", 1, 2)
        self.given = (out, recipe, reference, is_resumed)
        return RankerRun(recipe, PairData((), ()), Fitted((1.0, 0.5), (), 60.0), FIGURES)


def test_options_reach_the_recipe_and_figures_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    monkeypatch.setattr(ranker_run, "make_ranker", made.make)
    out = tmp_path / "ranker"
    assert main(["train", "ranker", "--out", str(out), "--minutes", "0.5", "--seed", "3", "--resume"]) == 0
    assert made.given == (out, RankerRecipe(max_minutes=0.5, seed=3), None, True)
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: useful after 2 steps; MRR 0.750 on 9 ")
    assert "embedder 0.500, BM25 0.250" in said
    assert main(["train", "ranker", "--out", str(out), "--steps", "7", "--reference", "docs"]) == 0
    assert made.given == (out, RankerRecipe(num_steps=7), Path("docs"), False)


def test_what_cant_be_done_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ranker", "--out", str(tmp_path / "new"), "--steps", "0"]) == 1
    assert "num_steps is 0" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    assert main(["train", "ranker", "--out", str(tmp_path / "there")]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
