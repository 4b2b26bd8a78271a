"""What a prompt's tokens are worth to the model."""

from __future__ import annotations

import pytest
import torch

from cynosure.engine.logprobs import score_prompt


def test_each_row_reports_its_token_and_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
    (first, top), (second, _) = score_prompt(logits, [0, 0], 2)
    assert first.token_id == 0
    assert first.logprob == pytest.approx(-2.4076, abs=1e-4)
    assert [item.token_id for item in top] == [2, 1]
    assert second.logprob == pytest.approx(-0.0134, abs=1e-4)


@pytest.mark.parametrize(("num_top", "expected"), [(0, 0), (2, 2), (9, 3)])
def test_as_many_alternatives_as_there_are(num_top: int, expected: int) -> None:
    [(_, top)] = score_prompt(torch.randn(1, 3), [1], num_top)
    assert len(top) == expected


def test_no_rows_are_no_scores() -> None:
    assert score_prompt(torch.empty(0, 3), [], 2) == []
