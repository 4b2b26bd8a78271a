"""Labelled answers in a file become the sections of focus in a profile, or an error that names the line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cynosure.cli.profile_focus import with_focus
from cynosure.core.errors import InputError, NotFound
from cynosure.insight.heads.profile_choice import choice_of
from cynosure.insight.judging.focus import FOCUS, INJECTION, focus_model_of
from cynosure.insight.profile import HeadProfile
from cynosure.models.load import LanguageModel, load
from cynosure.train.planted_instructions import cases, offered_tools
from cynosure.train.planted_instructions_model import InstructionRecipe, train_instructions


@dataclass(frozen=True)
class Planted:
    model: LanguageModel
    profile: HeadProfile


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted") / "model"
    train_instructions(folder, InstructionRecipe(num_steps=1, num_cases=2))
    return Planted(load(folder, dtype="float32"), HeadProfile("f00d", "planted", (4, 4, 4), {}, {}))


def lines(count: int = 12) -> list[dict[str, object]]:
    return [
        {
            "messages": case.messages,
            "tools": offered_tools(),
            "answer": case.answer,
            "injected": case.injection is not None,
            "followed": case.is_to_follow,
        }
        for case in cases(range(count))
    ]


def written(folder: Path, told: Sequence[object]) -> Path:
    file = folder / "answers.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    return file


def test_a_file_becomes_two_sections(planted: Planted, tmp_path: Path) -> None:
    file, told = written(tmp_path, lines()), []
    profile = with_focus(planted.profile, planted.model, file, lambda *stage: told.append(stage[0]))
    for group in (FOCUS, INJECTION):
        model = focus_model_of(profile, group)
        assert model is not None
        assert model.fitted_on["file"] == "answers.jsonl"
        assert model.fitted_on["answers"] == 12
    choice = choice_of(profile)
    assert choice is not None
    assert [one.name for one in choice.groups] == [FOCUS, INJECTION]
    assert told[-1] == "Fitting focus"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"answer": "anna"}, "line 2: messages"),
        ({**lines(1)[0], "more": 1}, "line 2: more"),
        ({**lines(1)[0], "answer": ""}, "line 2: the answer is empty"),
        ({**lines(1)[0], "messages": [{"role": "nobody", "content": "x"}]}, "line 2: .*role"),
    ],
)
def test_a_line_that_is_none_is_named(
    planted: Planted, tmp_path: Path, line: dict[str, object], words: str
) -> None:
    file = written(tmp_path, [lines(1)[0], line])
    with pytest.raises(InputError, match=f"(?s){words}"):
        with_focus(planted.profile, planted.model, file, lambda *_: None)


def test_a_file_that_is_not_there_is_named(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="labelled answer a line"):
        with_focus(planted.profile, planted.model, tmp_path / "absent", lambda *_: None)
