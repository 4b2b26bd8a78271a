"""The plain loop: where it ends, what it refuses, and that a batch gives each prompt what it gets alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import EmptyInput, InputError, InputTooLong, UnsupportedArchitecture
from cynosure.models.batch import Batch
from cynosure.models.generate import FinishReason, SamplingOptions, generate, stream
from cynosure.models.load import LanguageModel
from tests.models.decoder_cases import VOCAB
from tests.models.decoder_oracle import pair_of

FREE = SamplingOptions(12, eos_token_ids=())


@pytest.fixture
def model() -> LanguageModel:
    return pair_of("llama").model


@pytest.fixture
def prompts() -> list[list[int]]:
    return pair_of("llama").prompts


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_batch_gives_each_prompt_what_it_gets_alone(
    model: LanguageModel, prompts: list[list[int]], temperature: float
) -> None:
    options = replace(FREE, temperature=temperature, seed=5)
    together = generate(model, prompts, options)
    for index, (prompt, batched) in enumerate(zip(prompts, together, strict=True)):
        [alone] = generate(model, [prompt], replace(options, seed=5 + index))
        assert alone.token_ids == batched.token_ids
        assert alone.logprobs == pytest.approx(batched.logprobs, abs=1e-4)


def test_those_that_ended_drop_out_and_the_others_go_on(
    model: LanguageModel, prompts: list[list[int]]
) -> None:
    free = generate(model, prompts, FREE)
    ends = (free[0].token_ids[2], free[2].token_ids[7])
    ended = generate(model, prompts, replace(FREE, eos_token_ids=ends))
    assert len({len(generation.token_ids) for generation in ended}) > 1
    for whole, part in zip(free, ended, strict=True):
        stops = [index for index, token_id in enumerate(whole.token_ids) if token_id in ends]
        length = stops[0] + 1 if stops else 12
        assert part.token_ids == whole.token_ids[:length]
        assert part.finish_reason is (FinishReason.EOS if stops else FinishReason.LENGTH)


def test_a_run_of_tokens_stops(model: LanguageModel, prompts: list[list[int]]) -> None:
    [free] = generate(model, prompts[:1], FREE)
    never = (free.token_ids[4], VOCAB - 1)
    options = replace(FREE, stop=(never, free.token_ids[3:5]))
    [stopped] = generate(model, prompts[:1], options)
    assert stopped.token_ids == free.token_ids[:5]
    assert stopped.finish_reason is FinishReason.STOP


def test_the_checkpoint_says_what_ends_unless_the_caller_does(
    model: LanguageModel, prompts: list[list[int]]
) -> None:
    [free] = generate(model, prompts[:1], FREE)
    defaults = replace(model.generation_defaults, eos_token_ids=(free.token_ids[1],))
    changed = replace(model)
    vars(changed)["generation_defaults"] = defaults
    [ended] = generate(changed, prompts[:1], SamplingOptions(12))
    assert ended.token_ids == free.token_ids[:2]
    assert generate(changed, prompts[:1], FREE) == [free]


def test_logprobs_are_those_of_the_model(model: LanguageModel, prompts: list[list[int]]) -> None:
    prompt = prompts[1]
    [sampled] = generate(model, [prompt], replace(FREE, temperature=2.0, seed=1))
    graph = pair_of("llama").graph
    with torch.no_grad():
        rows = graph.logits(graph(Batch.pack([[*prompt, *sampled.token_ids]])).hidden).log_softmax(-1)
    expected = [float(rows[len(prompt) - 1 + i, token]) for i, token in enumerate(sampled.token_ids)]
    assert sampled.logprobs == pytest.approx(expected, abs=1e-4)


def test_sampling_follows_the_distribution(model: LanguageModel, prompts: list[list[int]]) -> None:
    """First tokens against their probabilities: each common one within five standard errors."""
    prompt, count = prompts[1][:1], 500
    graph = pair_of("llama").graph
    with torch.no_grad():
        logits = graph.logits(graph(Batch.pack([prompt])).hidden[-1:])[0]
    options = SamplingOptions(1, temperature=0.25, eos_token_ids=(), seed=10_000)
    drawn = Counter(generation.token_ids[0] for generation in generate(model, [prompt] * count, options))

    def is_near(temperature: float) -> bool:
        likely = (logits / temperature).softmax(-1)
        shares = {token_id: float(likely[token_id]) for token_id in likely.topk(4).indices.tolist()}
        return all(
            abs(drawn[token_id] / count - share) < 5 * (share * (1 - share) / count) ** 0.5
            for token_id, share in shares.items()
        )

    assert is_near(0.25)
    assert not is_near(0.125)
    assert not is_near(0.5)


def test_a_seed_repeats_and_no_seed_does_not(model: LanguageModel, prompts: list[list[int]]) -> None:
    warm = replace(FREE, temperature=2.0)
    assert generate(model, prompts, replace(warm, seed=3)) == generate(model, prompts, replace(warm, seed=3))
    assert generate(model, prompts, replace(warm, seed=3)) != generate(model, prompts, replace(warm, seed=4))
    assert generate(model, prompts, warm) != generate(model, prompts, warm)


def test_tokens_come_one_by_one_and_leave_torch_as_it_was(
    model: LanguageModel, prompts: list[list[int]]
) -> None:
    steps = stream(model, prompts, FREE)
    firsts = [next(steps) for _ in prompts]
    assert [step.sequence for step in firsts] == [0, 1, 2]
    assert not torch.is_inference_mode_enabled()
    assert len([*steps]) == 3 * 11


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        ([], EmptyInput, "no prompt"),
        ([[1], []], EmptyInput, "prompt 1 has no tokens"),
        ([[1, VOCAB]], InputError, f"token id {VOCAB}; the vocabulary is 0..{VOCAB - 1}"),
        ([[-1]], InputError, "token id -1"),
        ([[1] * 117], InputTooLong, "117 tokens and may get 12 more; the limit is 128"),
    ],
)
def test_unusable_prompts_are_refused_at_once(
    model: LanguageModel, wrong: list[list[int]], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        stream(model, wrong, FREE)


def test_the_longest_sequence_fits(model: LanguageModel) -> None:
    assert len(generate(model, [[1] * 116], FREE)[0].token_ids) == 12


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"stop": ((),)}, "stop sequence is empty"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SamplingOptions(**options)


def test_only_decoders_continue(model: LanguageModel) -> None:
    with pytest.raises(UnsupportedArchitecture, match="does not continue text"):
        stream(replace(model, graph=torch.nn.Identity()), [[1]])
