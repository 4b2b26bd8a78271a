"""The ranker of this process gives the oracle's logits, for pairs and for texts alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cynosure.core.errors import EmptyInput, InputTooLong, UnsupportedArchitecture
from cynosure.models.cross_encoder import load_cross_encoder
from cynosure.server.answers.ranking import values
from cynosure.server.services import ScoreKind
from tests.models.tiny_embedders import write_encoder
from tests.server.local_ranker import load_ranker

READINGS = [
    ("where is the star", "a sailor steers by the pole star"),
    ("the sailor",),
    ("the", "the"),
]


def expected_logits(folder: Path, oracle: transformers.PreTrainedModel) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [oracle(**tokenizer(*reading, return_tensors="pt")).logits[0] for reading in READINGS]
    return torch.stack(rows).numpy()


def test_logits_and_counts_are_the_oracle_s(tmp_path: Path) -> None:
    oracle = write_encoder(tmp_path, "BertForSequenceClassification", num_labels=3)
    ranker = load_ranker("tiny", tmp_path)
    found = asyncio.run(ranker.score(READINGS))
    np.testing.assert_allclose(found.logits, expected_logits(tmp_path, oracle), atol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert list(found.token_counts) == [len(tokenizer(*reading)["input_ids"]) for reading in READINGS]
    alone = asyncio.run(ranker.score(READINGS[1:2]))
    np.testing.assert_allclose(alone.logits[0], found.logits[1], atol=1e-5)


@pytest.mark.parametrize(
    ("num_labels", "change", "kind"),
    [
        (1, {}, ScoreKind.CHANCES),
        (3, {}, ScoreKind.SHARES),
        (3, {"problem_type": "multi_label_classification"}, ScoreKind.CHANCES),
        (1, {"problem_type": "regression"}, ScoreKind.NUMBERS),
        (1, {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, ScoreKind.NUMBERS),
    ],
)
def test_numbers_mean_what_the_cross_encoder_says(
    tmp_path: Path, num_labels: int, change: dict[str, object], kind: ScoreKind
) -> None:
    write_encoder(tmp_path, "BertForSequenceClassification", num_labels=num_labels)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    ranker = load_ranker("tiny", tmp_path)
    assert ranker.kind is kind
    pairs = [READINGS[0], READINGS[2]]
    found = values(ranker.kind, asyncio.run(ranker.score(pairs)))
    np.testing.assert_allclose(found, load_cross_encoder(tmp_path).score(pairs), atol=1e-5)


def test_what_can_not_be_read_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertForSequenceClassification", num_labels=1)
    ranker = load_ranker("tiny", tmp_path)
    with pytest.raises(EmptyInput):
        asyncio.run(ranker.score([("the", " ")]))
    with pytest.raises(InputTooLong):
        asyncio.run(ranker.score([("the", "star " * ranker.max_tokens)]))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, "BertModel")
    with pytest.raises(UnsupportedArchitecture, match="SequenceClassification"):
        load_ranker("tiny", tmp_path)
