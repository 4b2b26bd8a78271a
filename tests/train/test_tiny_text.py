"""A recipe learns, gives the same twice, and what it writes is what our loader runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.evaluate.perplexity import perplexity
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel, load
from cynosure.train.corpus import Corpus, library_folder, read_corpus
from cynosure.train.tiny_decoder import Shape, TinyDecoder
from cynosure.train.tiny_text import END, Recipe, Trained, encode, train, train_tokenizer
from tests.models.decoder_oracle import gap, logits_of

TINY = Shape(
    vocab_size=400, hidden_size=128, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2
)
RECIPE = Recipe(TINY, num_steps=30, num_seqs=4, seq_len=64, peak_rate=1e-2, is_mixed=False)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus(library_folder(), max_files=60)


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(corpus, RECIPE, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def model(trained: Trained) -> LanguageModel:
    return load(trained.folder)


def test_it_learns(trained: Trained) -> None:
    assert trained.held_out_loss < math.log(TINY.vocab_size) - 0.7
    assert trained.train_loss < math.log(TINY.vocab_size) - 0.7


def test_what_is_written_computes_what_was_trained(model: LanguageModel) -> None:
    twin = TinyDecoder(TINY)
    names = {"model.embed_tokens.weight": "embed.weight", "model.norm.weight": "norm.weight"}
    ours = model.graph.state_dict()
    for name, parameter in twin.named_parameters():
        place = names.get(name, name.removeprefix("model."))
        for theirs, word in (
            ("self_attn.", "attention."),
            ("_proj", ""),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "mlp_norm"),
        ):
            place = place.replace(theirs, word)
        with torch.no_grad():
            parameter.copy_(ours[place])
    prompt = torch.randint(0, 400, (90,)).tolist()
    with torch.inference_mode():
        assert gap(logits_of(model.graph, prompt), twin(torch.tensor([prompt]))[0]) < 1e-5  # type: ignore[arg-type]


def test_its_loss_is_the_one_that_perplexity_finds(
    trained: Trained, model: LanguageModel, corpus: Corpus
) -> None:
    assert model.tokenizer is not None
    tokens = encode(train_tokenizer(corpus.train, 400), corpus.held_out)
    count = min(64, (len(tokens) - 1) // 64)
    nats = sum(
        perplexity(model, tokens[64 * index : 64 * index + 65].tolist(), window=65).nats
        for index in range(count)
    )
    assert trained.held_out_loss == pytest.approx(nats / (64 * count), rel=1e-4)


def test_its_tokenizer_is_read_by_ours_and_its_end_ends(
    model: LanguageModel, trained: Trained, corpus: Corpus
) -> None:
    text = (trained.folder / "held_out.txt").read_text(encoding="utf-8")
    assert text == "".join(corpus.held_out)
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(text[:500]).ids
    assert model.tokenizer.decode(ids) == text[:500]
    assert list(ids) == train_tokenizer(corpus.train, 400).encode(text[:500]).ids
    assert model.generation_defaults.eos_token_ids == (0,)
    assert not set(ids) & {0}
    (answer,) = generate(model, [ids[:9]], SamplingOptions(4))
    assert answer.token_ids


def test_every_code_of_weights_fits(trained: Trained) -> None:
    for name in ("int8", "int4", "int4-g128", "int4-g128-pure"):
        assert load(trained.folder, quantize=name).scheme is not None


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(corpus: Corpus, tmp_path: Path) -> None:
    short = replace(RECIPE, num_steps=3)
    files = []
    for name, recipe in (("a", short), ("b", short), ("c", replace(short, seed=1))):
        folder = train(corpus, recipe, tmp_path / name).folder
        files.append((folder / "model.safetensors").read_bytes())
        assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "a" / "tokenizer.json").read_bytes()
    assert files[0] == files[1] != files[2]


def test_bfloat16_products_learn_too(corpus: Corpus, tmp_path: Path) -> None:
    found = train(corpus, replace(RECIPE, is_mixed=True, num_steps=12), tmp_path / "mixed")
    assert found.held_out_loss < math.log(TINY.vocab_size) - 0.2


def test_the_rate_warms_up_and_falls() -> None:
    recipe = Recipe(num_steps=100)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[1] == max(rates) == recipe.peak_rate
    assert rates[0] == recipe.peak_rate / 2
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 * recipe.peak_rate, rel=0.01)


def test_what_can_t_be_trained_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        train(corpus, RECIPE, tmp_path / "there")
    with pytest.raises(InputError, match=r"gives \d+ tokens; the model has 400"):
        train(Corpus(("a",), ("b",)), RECIPE, tmp_path / "new")
    with pytest.raises(InputError, match="a sequence takes 65"):
        train(replace(corpus, held_out=("short",)), RECIPE, tmp_path / "new")
    with pytest.raises(InputError, match="num_steps is 0"):
        Recipe(num_steps=0)
    with pytest.raises(InputError, match="seq_len is 900; the model takes 512"):
        Recipe(seq_len=900)
    assert not (tmp_path / "new").exists()


def test_texts_end(corpus: Corpus) -> None:
    tokenizer = train_tokenizer(corpus.train, 400)
    tokens = encode(tokenizer, ["a b", ""])
    assert tokens.tolist() == [*tokenizer.encode("a b").ids, 0, 0]
    assert tokenizer.token_to_id(END) == 0
