"""A model's own answers in a file become a section of a profile; a line that can't be used is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cynosure.cli.profile_citations import MIN_ANSWERS, read_answers, with_citations
from cynosure.core.errors import InputError, NotFound
from cynosure.insight import HeadProfile, choice_of
from cynosure.insight.citing.citation_fit import CitationFit
from cynosure.insight.citing.citations import citation_weights_of, is_watched
from cynosure.models.chat.format import ChatFormat
from cynosure.models.load import LanguageModel, load
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.served_tiny import write_decoder

PROFILE = HeadProfile("f00d", "tiny", (4, 4), {}, {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=512)
    write(folder, byte_level())
    (folder / "chat_template.jinja").write_text(SOURCE)
    return load(folder, dtype="float32")


def line(dice: random.Random, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    documents = [{"text": f"A {dice.randrange(99)}. B {dice.randrange(99)}."} for _ in range(2)]
    message = {"role": "user", "content": "Which?"}
    return {"messages": [message], "documents": documents, "answer": "It is 7. No."} | changed


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    file = folder / "answers.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return file


def test_a_profile_gets_its_section(model: LanguageModel, tmp_path: Path) -> None:
    dice = random.Random(0)
    file = written(tmp_path, [line(dice) for _ in range(MIN_ANSWERS)])
    # A random model hardly minds what it loses.
    profile = with_citations(PROFILE, model, file, lambda *_: None, CitationFit(min_effect_nats=0.02))
    weights = citation_weights_of(profile)
    assert weights is not None
    assert weights.fitted_on == f"{MIN_ANSWERS} answers of answers.jsonl"
    choice = choice_of(profile)
    assert choice is not None
    assert is_watched(weights, choice)


def test_a_model_that_does_not_answer_from_its_prompt_gets_none(model: LanguageModel, tmp_path: Path) -> None:
    dice = random.Random(0)
    file = written(tmp_path, [line(dice) for _ in range(MIN_ANSWERS)])
    with pytest.raises(InputError, match="0 matter to this model by 1 nats"):
        with_citations(PROFILE, model, file, lambda *_: None)


def test_an_answer_is_read_with_its_sentences_and_sources(model: LanguageModel, tmp_path: Path) -> None:
    assert model.tokenizer is not None
    chat = ChatFormat.of(model.chat_template, model.tokenizer)
    assert chat is not None
    dice = random.Random(0)
    lines = [line(dice) for _ in range(MIN_ANSWERS)]
    first, *_ = read_answers(written(tmp_path, lines), model.tokenizer, chat)
    sources = [model.tokenizer.decode(first.token_ids[start:end]) for start, end in first.sources]
    texts = [document["text"] for document in lines[0]["documents"]]
    assert sources == [
        f"{text.split('. ')[0]}. " if part == 0 else text.split(". ")[1] for text in texts for part in (0, 1)
    ]
    sentences = [model.tokenizer.decode(first.token_ids[start:end]) for start, end in first.sentences]
    assert [one.strip() for one in sentences] == ["It is 7.", "No."]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answer": " "}, "line 2: the answer says nothing"),
        ({"documents": None}, "line 2: citations are asked for, and the prompt has no document"),
        ({"more": 1}, "line 2: more"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "line 2:"),
        ({}, f"has 2 answers; a fit needs {MIN_ANSWERS}"),
    ],
)
def test_a_line_that_can_not_be_used_is_named(
    model: LanguageModel, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    dice = random.Random(0)
    file = written(tmp_path, [line(dice), line(dice, **changed)])
    with pytest.raises(InputError, match=message):
        with_citations(PROFILE, model, file, lambda *_: None)


def test_a_file_that_is_not_there(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="an answer a line"):
        with_citations(PROFILE, model, tmp_path / "none.jsonl", lambda *_: None)
