"""Pairs are scored as transformers and sentence-transformers score them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cynosure.core.errors import EmptyInput, InputTooLong, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.cross_encoder import load_cross_encoder
from tests.models.tiny_embedders import write_encoder

PAIRS = [
    ("where is the star", "a sailor steers by the pole star"),
    ("café", "the eyes of all are fixed on words"),
    ("the", "the"),
]


def expected_logits(folder: Path, oracle: transformers.PreTrainedModel) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for pair in PAIRS:
            given = tokenizer(*pair, return_tensors="pt", padding=False, truncation=False)
            rows.append(oracle(**given).logits[0])
    return torch.stack(rows).numpy()


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_one_output_is_a_sigmoid(tmp_path: Path) -> None:
    oracle = write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    model = load_cross_encoder(tmp_path)
    expected = expected_logits(tmp_path, oracle)
    np.testing.assert_allclose(model.score(PAIRS), sigmoid(expected), atol=1e-5)
    assert np.ptp(expected) > 0.1
    assert not np.allclose(model.score([(b, a) for a, b in PAIRS[:2]]), sigmoid(expected[:2]), atol=1e-3)


@pytest.mark.parametrize(
    "declared",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_a_declared_activation_goes_first(tmp_path: Path, declared: dict[str, object]) -> None:
    oracle = write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    expected = expected_logits(tmp_path, oracle)
    edit_config(tmp_path, **declared)
    np.testing.assert_allclose(load_cross_encoder(tmp_path).score(PAIRS), expected, atol=1e-5)


def test_an_unknown_activation_is_refused_by_name(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    edit_config(tmp_path, sbert_ce_default_activation_function="my.Softsign")
    with pytest.raises(UnsupportedConfig, match="Softsign"):
        load_cross_encoder(tmp_path)


def test_several_outputs_have_labels_and_sum_to_one(tmp_path: Path) -> None:
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    oracle = write_encoder(tmp_path, "BertForSequenceClassification", id2label=labels)
    model = load_cross_encoder(tmp_path)
    assert model.labels == tuple(labels.values())
    found = model.score(PAIRS)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-6)
    assert (found.argmax(1) == expected_logits(tmp_path, oracle).argmax(1)).all()


def test_what_does_not_fit_is_refused_or_cut_on_demand(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    model = load_cross_encoder(tmp_path)
    long = [("the star", "the star " * 40)]
    with pytest.raises(InputTooLong, match="48"):
        model.score(long)
    assert model.score(long, truncate=True).shape == (1, 1)
    with pytest.raises(EmptyInput):
        model.score([("the star", " \n")])
    assert model.score([]).shape == (0, 1)


def test_only_sequence_classifiers_score(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertForTokenClassification")
    with pytest.raises(UnsupportedArchitecture, match="BertForTokenClassification"):
        load_cross_encoder(tmp_path)


@pytest.mark.parametrize("repeats", [1, 5])
def test_attended_equals_the_dense_maps_of_the_oracle(tmp_path: Path, repeats: int) -> None:
    oracle = write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    oracle.set_attn_implementation("eager")
    model = load_cross_encoder(tmp_path)
    question, text = PAIRS[0][0], " ".join([PAIRS[0][1]] * repeats)
    seen = model.attended(question, text)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    given = tokenizer(question, text, return_tensors="pt")
    with torch.no_grad():
        maps = oracle(**given, output_attentions=True).attentions[-1][0]
    second = given["token_type_ids"][0].bool()
    first = ~second
    # [SEP] closes either text.
    first[first.nonzero()[-1]] = second[-1] = False
    received = maps[:, first].mean((0, 1))
    np.testing.assert_allclose(seen.weights, received[second], atol=1e-5)
    assert sum(seen.weights) + seen.sink_share == pytest.approx(1.0, abs=1e-5)
    assert [text[start:end] for start, end in seen.offsets][:2] == ["a", "sailor"]
    # Another question attends otherwise to the same text.
    other = model.attended("café", text)
    assert other.offsets == seen.offsets
    assert not np.allclose(other.weights, seen.weights, atol=1e-3)
    with pytest.raises(InputTooLong):
        model.attended(question, "star " * 999)
    with pytest.raises(EmptyInput):
        model.attended(" ", text)
