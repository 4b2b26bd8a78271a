"""The planted model's folder is one like any other: what it was trained on is what its template makes."""

from __future__ import annotations

import pytest

from cynosure.cli.local_completer import local_completer
from cynosure.core.errors import InputError
from cynosure.models.load import load
from cynosure.server.schemas.chat import ChatRequest
from cynosure.train.planted_instructions import END, arguments_of, cases, offered_tools
from cynosure.train.planted_instructions_model import (
    UNKNOWN,
    InstructionRecipe,
    TrainedInstructions,
    train_instructions,
    word_tokenizer,
)

BRIEF = InstructionRecipe(num_steps=2, num_cases=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedInstructions:
    return train_instructions(tmp_path_factory.mktemp("planted") / "model", BRIEF)


def test_what_it_reads_is_what_it_was_trained_on(trained: TrainedInstructions) -> None:
    model = load(trained.folder, dtype="float32")
    completer = local_completer("planted", model)
    raw = word_tokenizer()
    try:
        assert completer.chat is not None
        for case in cases(range(20)):
            asked = {"model": "planted", "messages": case.messages, "tools": offered_tools()}
            body = ChatRequest.model_validate(asked)
            prompt = completer.chat.prompt(body.turns, body.offer.tools)
            assert prompt.text == case.prompt
            assert list(prompt.token_ids) == raw.encode(case.prompt).ids
            answer = raw.encode(f"{case.answer}{END}").ids
            assert raw.token_to_id(UNKNOWN) not in answer
            assert completer.tokenizer.decode(answer) == case.answer
            if arguments_of(case.answer) is not None:
                assert len(answer) == 6
    finally:
        completer.close()


def test_it_says_how_it_went(trained: TrainedInstructions) -> None:
    assert len(trained.losses) == 2
    assert 0 <= trained.accuracy <= 1
    assert {one.name for one in trained.folder.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_nothing_is_overwritten(trained: TrainedInstructions) -> None:
    with pytest.raises(InputError, match="exists"):
        train_instructions(trained.folder, BRIEF)


def test_instructions_come_more_often_as_it_learns() -> None:
    recipe = InstructionRecipe(num_steps=300, injected_share=0.6)
    assert [recipe.share(step) for step in (0, 50, 100, 299)] == [0.0, 0.3, 0.6, 0.6]
