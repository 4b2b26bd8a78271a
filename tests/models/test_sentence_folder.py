"""A sentence-transformers folder is read whole, or refused by the name of what is not understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, UnsupportedConfig
from cynosure.models.encoder_spec import Pooling
from cynosure.models.sentence_folder import read_sentence_folder
from tests.models.tiny_embedders import HIDDEN, NORMALIZE, Module, dense, pooling, write_folder

MEAN = pooling("mean_tokens")


def test_reads_every_part(tmp_path: Path) -> None:
    modules = [
        pooling("cls_token", "mean_tokens"),
        dense("torch.nn.modules.activation.Tanh", 8, 64),
        NORMALIZE,
    ]
    write_folder(tmp_path, modules)
    spec = read_sentence_folder(tmp_path)
    assert spec.poolings == (Pooling.CLS, Pooling.MEAN)
    assert spec.max_tokens == 24
    assert spec.is_normalized
    [projection] = spec.dense
    assert (projection.in_features, projection.out_features, projection.activation) == (64, 8, "tanh")


def test_newer_files(tmp_path: Path) -> None:
    """Types moved to other modules, and pooling is one word."""
    kind = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    write_folder(tmp_path, [Module(kind, {"embedding_dimension": HIDDEN, "pooling_mode": "lasttoken"})])
    spec = read_sentence_folder(tmp_path)
    assert spec.poolings == (Pooling.LAST_TOKEN,)
    assert not spec.is_normalized


def test_a_folder_without_a_limit(tmp_path: Path) -> None:
    write_folder(tmp_path, [MEAN], max_seq_length=None)
    assert read_sentence_folder(tmp_path).max_tokens is None


@pytest.mark.parametrize(
    ("modules", "named"),
    [
        ([MEAN, Module("LSTM", {})], "LSTM"),
        ([Module("my_package.Pooling", {"pooling_mode_mean_tokens": True})], "my_package"),
        ([Module("Pooling", {"pooling_mode_mean_tokens": True, "pooling_mode_twist": True})], "twist"),
        ([Module("Pooling", {"pooling_mode_mean_tokens": False})], "no pooling"),
        ([Module("Pooling", {"pooling_mode": "median"})], "median"),
        ([MEAN, dense("torch.nn.modules.activation.Softsign")], "Softsign"),
        ([MEAN, NORMALIZE, dense("torch.nn.modules.activation.Tanh")], "Normalize"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, modules: list[Module], named: str) -> None:
    write_folder(tmp_path, modules)
    with pytest.raises(UnsupportedConfig, match=named):
        read_sentence_folder(tmp_path)


def test_a_prompt_before_every_text_is_refused(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": None}
    write_folder(tmp_path, [MEAN], config_sentence_transformers=prompts)
    read_sentence_folder(tmp_path)
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({**prompts, "default_prompt_name": "query"}))
    with pytest.raises(UnsupportedConfig, match="default_prompt_name"):
        read_sentence_folder(tmp_path)


def test_lower_casing_outside_of_the_tokenizer_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, [MEAN], sentence_bert_config={"max_seq_length": 24, "do_lower_case": True})
    with pytest.raises(UnsupportedConfig, match="do_lower_case"):
        read_sentence_folder(tmp_path)


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"modules\.json"):
        read_sentence_folder(tmp_path)
    write_folder(tmp_path, [MEAN])
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointNotFound, match="1_Pooling"):
        read_sentence_folder(tmp_path)
    for text in ("[{", '{"a": 1}', '[{"type": "x"}]', "[]"):
        (tmp_path / "modules.json").write_text(text)
        with pytest.raises(CheckpointCorrupt):
            read_sentence_folder(tmp_path)


def test_no_module_lies_outside_of_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, [MEAN])
    rows = json.loads((tmp_path / "modules.json").read_text())
    rows[1]["path"] = "../elsewhere"
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(CheckpointCorrupt, match="outside"):
        read_sentence_folder(tmp_path)
