"""Logits become what the config says that they mean."""

from __future__ import annotations

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.encoder_spec import HeadKind, HeadSpec
from cynosure.models.heads import scores
from tests.models.encoder_oracle import pair_of

LOGITS = torch.tensor([[0.5, -2.0, 1.0]])


def head(num_outputs: int, problem_type: str | None = None, activation: str | None = None) -> HeadSpec:
    return HeadSpec(HeadKind.SEQUENCE, num_outputs, problem_type=problem_type, activation=activation)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (head(3), LOGITS.softmax(-1)),
        (head(3, "single_label_classification"), LOGITS.softmax(-1)),
        (head(3, "multi_label_classification"), LOGITS.sigmoid()),
        (head(3, "regression"), LOGITS),
        (head(3, "single_label_classification", "identity"), LOGITS),
        (head(3, None, "sigmoid"), LOGITS.sigmoid()),
    ],
)
def test_scores(spec: HeadSpec, expected: torch.Tensor) -> None:
    torch.testing.assert_close(scores(spec, LOGITS), expected)


def test_a_single_output_is_a_probability_unless_declared_otherwise() -> None:
    logits = torch.tensor([[0.5], [-1.0]])
    torch.testing.assert_close(scores(head(1), logits), logits.sigmoid())
    torch.testing.assert_close(scores(head(1, "regression"), logits), logits)
    torch.testing.assert_close(scores(head(1, None, "identity"), logits), logits)


def test_scores_are_float32() -> None:
    assert scores(head(3), LOGITS.bfloat16()).dtype == torch.float32


def test_an_encoder_without_a_head_says_so() -> None:
    graph = pair_of("bert").graph
    batch = Batch.pack([[1, 2]])
    with pytest.raises(InputError, match="no head"):
        graph.logits(graph(batch).hidden, batch)


def test_a_tied_head_shares_the_embeddings() -> None:
    tied, untied = pair_of("bert-masked-lm").graph, pair_of("bert-masked-lm-untied").graph
    assert tied.head is not None
    assert untied.head is not None
    assert tied.head.output.weight is tied.embeddings.token.weight
    assert not torch.equal(untied.head.output.weight, untied.embeddings.token.weight)
