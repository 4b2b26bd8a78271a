"""Prompts and answers become cases whose targets spell what is copied; a line that is not usable is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.cli.profile import findings_of
from cynosure.cli.profile_needles import MIN_NEEDLES, read_needles
from cynosure.core.errors import InputError, NotFound
from cynosure.insight import read_profile
from cynosure.insight.heads.head_kinds import INDUCTION, RETRIEVAL
from cynosure.models.load import LanguageModel, load
from tests.server.served_tiny import write_decoder

NAMES = ("Vega", "Rigel", "Deneb", "Spica", "Mira", "Altair", "Castor", "Pollux")
PLAIN = [
    {
        "prompt": f"A star is called {name}. What is it called?",
        "answer": f" It is called {name}.",
        "copied": name,
    }
    for name in NAMES
]
SAID = [
    {
        "messages": [{"role": "user", "content": f"A star is called {name}."}],
        "answer": f"It is called {name}.",
        "copied": f"called {name}",
    }
    for name in NAMES
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"), 512)


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load(folder, dtype="float32")


def write(tmp_path: Path, lines: list[dict[str, object]]) -> Path:
    file = tmp_path / "needles.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize("lines", [PLAIN, SAID])
def test_targets_spell_what_is_copied(
    model: LanguageModel, tmp_path: Path, lines: list[dict[str, object]]
) -> None:
    assert model.tokenizer is not None
    cases = read_needles(write(tmp_path, lines), model)
    assert len(cases) == len(lines)
    for case, line in zip(cases, lines, strict=True):
        copied = [case.token_ids[row + 1] for row in case.rows]
        assert all(
            case.token_ids[key] == token
            for token, keys in zip(copied, case.targets, strict=True)
            for key in keys
        )
        assert str(line["copied"]) in model.tokenizer.decode(copied)
        assert case.first == case.rows[0] + 1
        assert len(case.token_ids) == case.rows[-1] + 2
        assert max(key for keys in case.targets for key in keys) < case.first


def test_a_profile_is_made_on_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads.json"
    file = write(tmp_path, [*PLAIN, *SAID[:3]])
    assert main(["profile", str(folder), "--out", str(out), "--quick", "--needles", str(file)]) == 0
    found = read_profile(out)
    kinds = findings_of(found)
    assert (kinds[RETRIEVAL].num_cases, kinds[INDUCTION].num_cases) == (11, 8)
    assert found.made["needles"] == "needles.jsonl"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": "x", "messages": [], "answer": "y"}, "one of both"),
        ({"answer": "y"}, "one of both"),
        ({"prompt": "x", "answer": "y", "copied": "z"}, "does not stand in the answer"),
        ({"prompt": "x", "answer": " "}, "does not stand in the answer"),
        ({"prompt": "x", "answer": "x", "more": 1}, "more: Extra inputs are not permitted"),
        ({"prompt": "x", "answer": "star"}, "not in the prompt, token for token"),
        ({"prompt": "x " * 600, "answer": "x"}, "the limit is 512"),
        ({"messages": [{"role": "nobody"}], "answer": "x"}, "role"),
    ],
)
def test_a_line_that_is_not_usable_is_named(
    model: LanguageModel, tmp_path: Path, line: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_needles(write(tmp_path, [*PLAIN, line]), model)
    assert f"needles.jsonl, line {len(PLAIN) + 1}: " in str(caught.value)


def test_files_that_tell_nothing(model: LanguageModel, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="can't be read"):
        read_needles(tmp_path / "none", model)
    with pytest.raises(InputError, match=f"has 7 lines; the limit is {MIN_NEEDLES}"):
        read_needles(write(tmp_path, PLAIN[:7]), model)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(InputError, match="no UTF-8 at byte 0"):
        read_needles(tmp_path / "bytes", model)
    # One without a template goes on from prompts alone.
    with pytest.raises(InputError, match="line 1: the model has no chat template"):
        read_needles(write(tmp_path, SAID), load(checkpoint, dtype="float32"))
