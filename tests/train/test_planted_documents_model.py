"""A planted model learns, its checkpoint is what was trained, and it converses through our loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.models.chat.template import ChatTemplate, read_templates
from cynosure.models.load import LanguageModel, load
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.train.planted_checkpoint import word_tokenizer
from cynosure.train.planted_documents import FITTING_SEEDS, prompts
from cynosure.train.planted_documents_language import World
from cynosure.train.planted_documents_model import PlantedModel, PlantedRecipe, train_planted_documents
from cynosure.train.planted_documents_rows import RowMaker, exactness, loss_of_rows
from cynosure.train.tiny_decoder import TinyDecoder
from tests.models.decoder_oracle import logits_of

DEFAULT = PlantedRecipe()
SMALL = replace(
    DEFAULT,
    shape=replace(DEFAULT.shape, num_layers=1, intermediate_size=128),
    num_steps=20,
    num_rows=4,
    num_asked=2,
    peak_rate=1e-2,
    num_checked=4,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PlantedModel:
    return train_planted_documents(SMALL, tmp_path_factory.mktemp("planted") / "model")


@pytest.fixture(scope="module")
def model(trained: PlantedModel) -> LanguageModel:
    return load(trained.folder)


def test_it_learns(trained: PlantedModel) -> None:
    losses = trained.fitted.losses
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert set(trained.exact) == {
        f"{kind}, {regime}"
        for kind in ("answerable", "unanswerable", "memorised", "conflict")
        for regime in ("short", "long")
    }


def test_the_same_seed_gives_the_same_rows() -> None:
    maker = RowMaker(word_tokenizer(World.drawn().words))
    first, again, other = (maker.batch(seed, 0.5, 2, 2)[0] for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_answers_count_and_what_fills_rows_up_does_not() -> None:
    maker = RowMaker(word_tokenizer(World.drawn().words))
    short, long = (next(prompts(FITTING_SEEDS[:1], regimes=[one])) for one in ("short", "long"))
    ids, weights = maker.padded([maker.row(short), maker.row(long)])
    num_answer = len(short.answer.split()) + 1
    assert int((weights[0] == 1).sum()) == num_answer
    decoder = TinyDecoder(SMALL.shape)
    alone = loss_of_rows(decoder, *maker.padded([maker.row(short)]))
    weights[1] = 0
    assert loss_of_rows(decoder, ids, weights).item() == pytest.approx(alone.item(), abs=1e-5)


def test_exactness_needs_the_whole_answer() -> None:
    class Parrot(TinyDecoder):
        """Knows every next token, or all but one."""

        missed: int | None = None

        def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
            after = torch.roll(self.row, -1, 1)[:, : token_ids.shape[1]].clone()
            if self.missed is not None:
                after[:, self.missed] = 0
            return torch.nn.functional.one_hot(after, self.shape.vocab_size).float()

    maker = RowMaker(word_tokenizer(World.drawn().words))
    prompt = next(prompts(FITTING_SEEDS[:1]))
    parrot = Parrot(SMALL.shape)
    parrot.row = torch.tensor([maker.row(prompt)[0]])
    assert exactness(parrot, maker, [prompt]).exact == 1
    parrot.missed = parrot.row.shape[1] - 3
    assert exactness(parrot, maker, [prompt]).exact == 0
    parrot.missed = 2
    assert exactness(parrot, maker, [prompt]).exact == 1


def test_the_checkpoint_reads_a_conversation_as_the_rows_do(
    model: LanguageModel, trained: PlantedModel
) -> None:
    tokenizer = Tokenizer.from_folder(trained.folder)
    template = ChatTemplate(
        read_templates(trained.folder), tokenizer.named_tokens, control_tokens=tokenizer.control_tokens
    )
    chat = ChatFormat.of(template, tokenizer)
    assert chat is not None
    prompt = next(prompts(FITTING_SEEDS[:1]))
    texts = [*(text for _, text in prompt.documents), prompt.question]
    turn = Message("user", "messages[0]", tuple(CallerText(text, "messages[0].content") for text in texts))
    told = chat.prompt([turn])
    template.close()
    maker = RowMaker(word_tokenizer(World.drawn().words))
    ids, weights = maker.row(prompt)
    assert list(told.token_ids) == [one for one, weight in zip(ids, weights, strict=True) if weight < 1]
    assert tokenizer.decode(ids[len(told.token_ids) :]) == prompt.answer
    assert torch.isfinite(logits_of(model.graph, ids)).all()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is overwritten"):
        train_planted_documents(SMALL, tmp_path)
