"""Penalties, bias and bans against the processors of `transformers` and against plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from cynosure.engine.penalties import add_bias, ban, penalise
from cynosure.engine.sampling import SamplingParams

VOCAB = 40
PROMPT, ANSWER = [3, 3, 7, 1], [7, 9, 9, 9]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(VOCAB) * 3


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_repetition_is_the_oracle_s_for_prompt_and_answer(logits: Tensor, penalty: float) -> None:
    params = SamplingParams(8, repetition_penalty=penalty)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([PROMPT + ANSWER]), logits[None])[0]
    found = penalise(logits, params, PROMPT, ANSWER)
    assert torch.equal(found, expected)
    assert set((found != logits).nonzero()[:, 0].tolist()) == {1, 3, 7, 9}


def test_presence_and_frequency_look_at_the_answer_alone(logits: Tensor) -> None:
    params = SamplingParams(8, presence_penalty=0.5, frequency_penalty=-0.25)
    found = penalise(logits, params, PROMPT, ANSWER)
    for token_id in range(VOCAB):
        times = ANSWER.count(token_id)
        expected = float(logits[token_id]) - (0.5 - 0.25 * times if times else 0.0)
        assert float(found[token_id]) == pytest.approx(expected, abs=1e-6)


def test_nothing_said_changes_nothing_and_the_input_stays(logits: Tensor) -> None:
    before = logits.clone()
    params = SamplingParams(8, presence_penalty=2.0, repetition_penalty=2.0)
    assert torch.equal(penalise(logits, params, [], []), logits)
    penalise(logits, params, PROMPT, ANSWER)
    add_bias(logits, [(1, 5.0)])
    ban(logits, torch.zeros(VOCAB, dtype=torch.bool), frozenset({3}))
    assert torch.equal(logits, before)


def test_bias_is_the_oracle_s(logits: Tensor) -> None:
    bias = [(0, -100.0), (5, 100.0), (39, 0.125)]
    oracle = SequenceBiasLogitsProcessor([[[token_id], value] for token_id, value in bias])
    expected = oracle(torch.tensor([PROMPT]), logits[None])[0]
    assert torch.equal(add_bias(logits, bias), expected)


def test_bans_leave_what_is_allowed(logits: Tensor) -> None:
    allowed = torch.zeros(VOCAB, dtype=torch.bool)
    allowed[[2, 4, 6]] = True
    found = ban(logits, allowed, frozenset({4}))
    assert (found > -math.inf).nonzero()[:, 0].tolist() == [2, 6]
    assert torch.equal(found[[2, 6]], logits[[2, 6]])


def test_what_alone_is_allowed_is_not_held_back(logits: Tensor) -> None:
    """A constraint that is fulfilled allows only the end; `min_tokens` then has to give way."""
    allowed = torch.zeros(VOCAB, dtype=torch.bool)
    allowed[4] = True
    assert (ban(logits, allowed, frozenset({4})) > -math.inf).nonzero()[:, 0].tolist() == [4]
