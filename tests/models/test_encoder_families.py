"""Configs of encoders are read as their authors mean them, in old spellings and new; the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.attention.masks import Full, Window
from cynosure.attention.positions import Rope
from cynosure.core.errors import CheckpointCorrupt, InputError, InputTooLong, UnsupportedConfig
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec
from cynosure.models.families.table import BRANDS
from cynosure.models.load import load
from tests.models.encoder_oracle import TOLERANCE, answers, gap, pair_of
from tests.models.tiny_embedders import write_encoder

BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 96,
    "vocab_size": 120,
}
# What the published ModernBERT-base says, smaller.
MODERN = {
    **BERT,
    "num_hidden_layers": 4,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "local_attention": 128,
    "position_embedding_type": "absolute",
    "layer_norm_eps": 1e-05,
    "norm_eps": 1e-05,
    "hidden_activation": "gelu",
    "classifier_pooling": "mean",
    "repad_logits_with_grad": False,
    "sparse_prediction": False,
    "tie_word_embeddings": True,
}


def parse(architecture: str, values: dict[str, object]) -> EncoderSpec:
    return BRANDS[architecture].parse(ConfigReader(values))


def test_modernbert_in_its_first_spelling() -> None:
    spec = parse("ModernBertModel", MODERN)
    masks = [layer.attention.mask for layer in spec.layers]
    assert masks == [Full(), Window(65), Window(65), Full()]
    ropes = [layer.attention.position for layer in spec.layers]
    assert [rope.theta for rope in ropes if isinstance(rope, Rope)] == [160000.0, 10000.0, 10000.0, 160000.0]
    assert [layer.has_attention_norm for layer in spec.layers] == [False, True, True, True]


def test_a_null_local_base_means_the_global_one() -> None:
    spec = parse("ModernBertModel", {**MODERN, "local_rope_theta": None})
    assert {layer.attention.position.theta for layer in spec.layers} == {160000.0}


@pytest.mark.parametrize(
    ("architecture", "changes", "named"),
    [
        ("BertModel", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("BertModel", {"is_decoder": True}, "is_decoder"),
        ("BertModel", {"hidden_act": "mish"}, "hidden_act"),
        ("BertModel", {"num_attention_heads": 5}, "5 heads"),
        ("BertModel", {"a_new_idea": 1}, "a_new_idea"),
        ("BertForQuestionAnswering", {"num_labels": 3}, "span"),
        ("BertForTokenClassification", {"id2label": {"1": "a", "2": "b"}}, "id2label"),
        ("BertForTokenClassification", {"id2label": {"0": "a", "1": "b"}, "num_labels": 3}, "id2label"),
        ("BertForSequenceClassification", {"problem_type": "ranking"}, "problem_type"),
        ("ModernBertModel", {"layer_types": ["full_attention"]}, "layer_types"),
        ("ModernBertModel", {"layer_types": ["full_attention", "x", "x", "x"]}, "layer_types"),
        ("ModernBertForSequenceClassification", {"classifier_pooling": "max"}, "classifier_pooling"),
    ],
)
def test_what_would_change_the_maths_is_named(
    architecture: str, changes: dict[str, object], named: str
) -> None:
    good = MODERN if architecture.startswith("Modern") else BERT
    parse(architecture, good)
    with pytest.raises(UnsupportedConfig, match=named):
        parse(architecture, {**good, **changes})


def test_labels_have_names() -> None:
    values = {**BERT, "id2label": {"1": "yes", "0": "no"}, "label2id": {"yes": 1, "no": 0}}
    head = parse("BertForSequenceClassification", values).head
    assert head is not None
    assert head.labels == ("no", "yes")
    unnamed = parse("BertForTokenClassification", BERT).head
    assert unnamed is not None
    assert unnamed.labels == ("LABEL_0", "LABEL_1")


def rewrite(folder: Path, change: dict[str, torch.Tensor]) -> None:
    save_file(change, folder / "model.safetensors", metadata={"format": "pt"})


def test_first_checkpoints_have_other_names(tmp_path: Path) -> None:
    """`gamma` and `beta`, a stored range of positions, and the heads of pre-training."""
    pair = pair_of("bert-masked-lm")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(pair.folder / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(96)[None]
    old["bert.pooler.dense.weight"] = torch.zeros(64, 64)
    old["cls.seq_relationship.weight"] = torch.zeros(2, 64)
    rewrite(tmp_path, old)
    (tmp_path / "config.json").write_text((pair.folder / "config.json").read_text())
    graph = load(tmp_path, dtype="float32").graph
    assert isinstance(graph, Encoder)
    with torch.no_grad():
        batch = Batch.pack([pair.texts[0]], type_ids=[pair.types[0]])
        assert gap(answers(graph, batch)[0], pair.expected[0]) <= TOLERANCE


@pytest.mark.parametrize(
    "lost", ["encoder.layer.1.attention.self.key.weight", "encoder.layer.0.output.dense.bias"]
)
def test_a_missing_tensor_is_noticed(tmp_path: Path, lost: str) -> None:
    write_encoder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[lost]
    rewrite(tmp_path, tensors)
    with pytest.raises(CheckpointCorrupt, match="lacks"):
        load(tmp_path)


def test_an_unexpected_tensor_is_noticed(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    rewrite(tmp_path, {**tensors, "encoder.layer.0.adapter.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointCorrupt, match="adapter"):
        load(tmp_path)


def test_a_sequence_classifier_needs_its_pooler(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertForSequenceClassification")
    tensors = load_file(tmp_path / "model.safetensors")
    rewrite(tmp_path, {name: tensor for name, tensor in tensors.items() if "pooler" not in name})
    with pytest.raises(CheckpointCorrupt, match=r"head\.transform\.dense"):
        load(tmp_path)


def test_inputs_outside_of_the_tables_are_refused() -> None:
    graph = pair_of("bert").graph
    with pytest.raises(InputTooLong, match="96"):
        graph(Batch.pack([[1] * 97]))
    with pytest.raises(InputError, match="token ids"):
        graph(Batch.pack([[1, 120]]))
    with pytest.raises(InputError, match="token ids"):
        graph(Batch.pack([[-1]]))
    with pytest.raises(InputError, match="type ids"):
        graph(Batch.pack([[1, 2]], type_ids=[[0, 2]]))


def test_a_declared_length_is_kept(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    graph = load(tmp_path, max_model_len=10).graph
    with pytest.raises(InputTooLong, match="10"):
        graph(Batch.pack([[1] * 11]))
    assert json.loads((tmp_path / "config.json").read_text())["max_position_embeddings"] == 64
