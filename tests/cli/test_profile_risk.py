"""Labelled answers of a file become a section of a profile; a line that can't be used is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cynosure.cli.profile_risk import read_answers, spelled, with_risk
from cynosure.core.errors import InputError, NotFound
from cynosure.insight import HeadProfile, choice_of
from cynosure.insight.judging.risk import risk_model_of
from cynosure.models.load import LanguageModel, load
from tests.models.tiny_tokenizers import byte_fallback, write
from tests.server.answers.test_sentence_risks import SOURCE
from tests.server.served_tiny import write_decoder

NUM_ANSWERS = 50
PROFILE = HeadProfile(
    "f00d", "tiny", (4, 4), {}, {"kinds": {"retrieval": {"confirmed": True, "heads": [[1, 2]]}}}
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=512)
    write(folder, byte_fallback())
    (folder / "chat_template.jinja").write_text(SOURCE)
    return load(folder, dtype="float32")


def line(dice: random.Random, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    documents = [f"The star has {dice.randrange(99)} names." for _ in range(2)]
    parts = [{"type": "text", "text": text, "segment": f"doc:{at}"} for at, text in enumerate(documents)]
    content = [*parts, {"type": "text", "text": "Which?"}]
    answer = {"messages": [{"role": "user", "content": content}], "answer": "It is. So it may be. No."}
    return answer | {"grounded": [True, None, False]} | changed


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    file = folder / "labelled.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return file


def test_a_profile_gets_its_section(model: LanguageModel, tmp_path: Path) -> None:
    dice, told = random.Random(0), list[str]()
    file = written(tmp_path, [line(dice) for _ in range(NUM_ANSWERS)])
    profile = with_risk(PROFILE, model, file, lambda stage, *_: told.append(stage))
    risk = risk_model_of(profile)
    assert risk is not None
    # A sentence without a label is left out.
    counts = (risk.fitted_on["num_grounded"], risk.fitted_on["num_ungrounded"])
    assert counts == (NUM_ANSWERS, NUM_ANSWERS)
    assert risk.fitted_on["file"] == "labelled.jsonl"
    assert risk.retrieval == ((1, 2),)
    assert risk.num_documents == (2, 2)
    assert set(told) == {"Reading labelled answers", "Fitting risk"}
    choice = choice_of(profile)
    assert choice is not None
    assert [group.name for group in choice.groups] == ["retrieval", "risk"]


def test_documents_stand_beside_messages_too(model: LanguageModel, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Which?"}]
    documents = [{"id": "stars", "title": "Stars", "text": "It has names."}, {"text": "It has none."}]
    lines = [line(random.Random(0), messages=asked, documents=documents)] * NUM_ANSWERS
    risk = risk_model_of(with_risk(PROFILE, model, written(tmp_path, lines), lambda *_: None))
    assert risk is not None
    assert risk.num_documents == (2, 2)


def test_tokens_spell_the_answer(model: LanguageModel) -> None:
    assert model.tokenizer is not None
    text = "It is. Größe, 東京! No."
    tokens = spelled(model.tokenizer, text)
    assert "".join(token.text for token in tokens) == text
    assert [token.start for token in tokens] == sorted(token.start for token in tokens)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"grounded": [True]}, "line 2: the answer has 3 sentences, and grounded 1"),
        ({"grounded": "yes"}, "line 2: grounded"),
        ({"more": 1}, "line 2: more"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "line 2: messages.0.role: "),
    ],
)
def test_a_line_that_can_not_be_used_is_named(
    model: LanguageModel, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    dice = random.Random(0)
    file = written(tmp_path, [line(dice), line(dice, **changed)])
    with pytest.raises(InputError, match=message):
        with_risk(PROFILE, model, file, lambda *_: None)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="a labelled answer a line"):
        read_answers(tmp_path / "none.jsonl")
