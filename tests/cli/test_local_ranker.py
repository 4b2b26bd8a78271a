"""Test the packed ranker as the terminal's commands hold it: logits as transformers has them, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cynosure.cli.local_ranker import LocalRanker, load_local_ranker
from cynosure.core.errors import EmptyInput, InputTooLong
from cynosure.retrieval import LABELS, Ranker
from tests.models.test_cross_encoder import edit_config
from tests.models.tiny_embedders import write_encoder

QUESTION = "where is the star"
TEXTS = [
    "a sailor steers by the pole star and by the words of all",
    "the",
    "the eyes of all are fixed on words",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranker")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> transformers.PreTrainedModel:
    made = write_encoder(folder, "BertForSequenceClassification", num_labels=3)
    edit_config(folder, id2label=dict(enumerate(LABELS)), label2id={name: n for n, name in enumerate(LABELS)},
                problem_type="multi_label_classification")  # fmt: skip
    return made


@pytest.fixture(scope="module")
def ranker(folder: Path, oracle: transformers.PreTrainedModel) -> LocalRanker:
    return load_local_ranker(folder, "float32")


def test_logits_are_transformers_s_in_the_order_of_the_texts(
    folder: Path, oracle: transformers.PreTrainedModel, ranker: LocalRanker
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [oracle(**tokenizer(QUESTION, text, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    found = ranker.score(QUESTION, TEXTS)
    np.testing.assert_allclose(found, rows, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3, "texts in another order would pass"


def test_it_is_what_the_search_asks_for(ranker: LocalRanker) -> None:
    assert isinstance(ranker, Ranker)
    assert ranker.labels == LABELS
    assert ranker.score(QUESTION, []).shape == (0, 3)


def test_a_pair_that_can_not_be_read_whole_is_refused(ranker: LocalRanker) -> None:
    with pytest.raises(InputTooLong):
        ranker.score(QUESTION, ["the " * ranker.max_tokens])
    with pytest.raises(EmptyInput):
        ranker.score(QUESTION, [" "])
