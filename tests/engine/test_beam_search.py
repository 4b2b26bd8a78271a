"""With beams enough a search finds the best of all answers; its rules hold at the edges."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from cynosure.core.errors import EngineFault
from cynosure.engine import SamplingParams
from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.beam_search import BeamSearch

VOCAB, END = 4, 3


def table(seed: int) -> torch.Tensor:
    """Logits of the next token by the one before it, the start token first."""
    return torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def search(logits: torch.Tensor, beams: BeamParams, max_tokens: int, **options: object) -> BeamSearch:
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, beams=beams, **options)  # type: ignore[arg-type]
    found = BeamSearch(params, (0,), (END,))
    while not found.is_done:
        last = [beam.tokens[-1].token_id if beam.tokens else 0 for beam in found.running]
        parents = found.advance(logits[last])
        assert len(parents) == len(found.running) or found.is_done
    return found


def best_of_all(logits: torch.Tensor, max_tokens: int, penalty: float) -> tuple[float, list[int]]:
    logprobs, found = logits.log_softmax(-1), []
    for length in range(1, max_tokens + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            is_whole = END not in tokens[:-1] and (tokens[-1] == END or length == max_tokens)
            if is_whole:
                pairs = zip((0, *tokens), tokens, strict=False)
                total = sum(float(logprobs[before, token]) for before, token in pairs)
                found.append((total / length**penalty, list(tokens)))
    return max(found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_beams_enough_find_the_best_answer_of_all(seed: int, penalty: float) -> None:
    beams = BeamParams(32, penalty, EarlyStopping.NEVER)
    score, tokens = best_of_all(table(seed), 4, penalty)
    found = search(table(seed), beams, 4).best
    assert len(found.tokens) == len(tokens), "answers of one score may differ in the order of tokens"
    assert found.score == pytest.approx(score, abs=1e-5)


def test_a_narrow_search_may_miss_it() -> None:
    missed = 0
    for seed in range(40):
        found = search(table(seed), BeamParams(2, 1.0, EarlyStopping.FULL), 5).best
        missed += found.token_ids != best_of_all(table(seed), 5, 1.0)[1]
    assert missed, "the test above would hold for any search"


def test_log_probabilities_are_the_models_own() -> None:
    found = search(table(1), BeamParams(3), 3, logprobs=2, repetition_penalty=1.5).best
    before = 0
    for token in found.tokens:
        expected = table(1).log_softmax(-1)[before]
        assert token.logprob == pytest.approx(float(expected[token.token_id]), abs=1e-6)
        assert token.top_logprobs[0].logprob == pytest.approx(float(expected.max()), abs=1e-6)
        before = token.token_id


def test_the_least_length_keeps_the_end_back() -> None:
    certain = torch.full((VOCAB, VOCAB), -9.0)
    certain[:, END] = 9.0
    assert search(certain, BeamParams(2), 6).best.token_ids == [END]
    assert len(search(certain, BeamParams(2), 6, min_tokens=4).best.tokens) == 5


def test_what_can_not_go_on_says_so() -> None:
    with pytest.raises(EngineFault, match="finite"):
        search(torch.full((VOCAB, VOCAB), math.nan), BeamParams(2), 3)
    only_end = torch.full((VOCAB, VOCAB), -math.inf)
    only_end[:, END] = 0.0
    # As in the sampler: where nothing else may follow, the end token is not kept back.
    assert search(only_end, BeamParams(2), 3, min_tokens=2).best.token_ids == [END]
