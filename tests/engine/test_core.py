"""Hold the engine against the plain loop: whatever the batch, the pages and the order, the same tokens."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cynosure.core.errors import EngineFault, InputError, InputTooLong
from cynosure.engine import Cancelled, Failed, Finished, FinishReason, PromptLogprobs, Refused, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.runner import Runner, Work
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of

FAMILIES = ("llama", "gemma2", "bloom")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return pair_of(request.param).model


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


def prompts_of(seed: int, lengths: list[int]) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(1, 90) for _ in range(length)] for length in lengths]


def plain(model: LanguageModel, prompt: list[int], max_tokens: int = 8) -> list[int]:
    options = SamplingOptions(max_new_tokens=max_tokens, eos_token_ids=())
    return list(generate(model, [prompt], options)[0].token_ids)


def test_many_requests_give_what_the_plain_loop_gives(model: LanguageModel) -> None:
    core, ear = new_core(model), Ear()
    prompts = prompts_of(1, [1, 7, 8, 9, 31, 40, 3, 17])
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt), ear)
    run_to_end(core)
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == plain(model, prompt), f"prompt of {len(prompt)}"
        end = ear.end(f"r{index}")
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.LENGTH
        assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(prompt), 8)


def test_preemption_by_recompute_changes_nothing(llama: LanguageModel) -> None:
    """Pages for three answers, four sequences that grow: somebody must go and come back."""
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    tight = replace(SMALL, kv_cache_bytes=bytes_per_page * 9)
    core, ear = new_core(llama, tight), Ear()
    prompts = prompts_of(2, [9, 10, 11, 12])
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 20), ear)
    num_waiting_after_start = 0
    for now in range(400):
        before = set(core._running)
        core.step(float(now))
        num_waiting_after_start += len(before & set(core._waiting))
        if not core.has_work:
            break
    assert num_waiting_after_start > 0, "nobody was preempted: the test shows nothing"
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == plain(llama, prompt, 20)


def test_a_known_beginning_is_found_and_changes_nothing(llama: LanguageModel) -> None:
    core, ear = new_core(llama), Ear()
    prompt = prompts_of(3, [30])[0]
    for request_id, tenant in (("first", "a"), ("again", "a"), ("other", "b")):
        core.add(ask(request_id, prompt, tenant=tenant), ear)
        run_to_end(core)
    cached = {request_id: ear.end(request_id).usage.cached_tokens for request_id in ear.events}
    assert cached == {"first": 0, "again": 24, "other": 0}
    assert ear.tokens("again") == ear.tokens("first") == ear.tokens("other") == plain(llama, prompt)


def test_the_next_turn_computes_less_than_a_page_of_what_was_said(llama: LanguageModel) -> None:
    core, ear = new_core(llama), Ear()
    history, num_new = prompts_of(4, [9])[0], 0
    for turn in range(6):
        core.add(ask(f"t{turn}", history, 5), ear)
        run_to_end(core)
        usage = ear.end(f"t{turn}").usage
        if turn:
            assert len(history) - usage.cached_tokens <= num_new + SMALL.block_size
        new = prompts_of(turn, [4])[0]
        history, num_new = [*history, *ear.tokens(f"t{turn}"), *new], len(new) + 1


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_arrivals_and_departures_in_any_order(llama: LanguageModel, seed: int) -> None:
    dice = random.Random(seed)
    core, ear = new_core(llama), Ear()
    prompts = prompts_of(seed, [dice.randrange(1, 40) for _ in range(7)])
    cancelled = {f"r{index}" for index in range(7) if dice.random() < 0.3}
    pending = list(enumerate(prompts))
    for now in range(1_000):
        if pending and dice.random() < 0.5:
            index, prompt = pending.pop()
            core.add(ask(f"r{index}", prompt, tenant=dice.choice("ab"), arrival_s=float(now)), ear)
        for request_id in list(cancelled):
            if request_id in ear.events and dice.random() < 0.3:
                core.cancel(request_id)
        core.step(float(now))
        core.check_integrity()
        if not pending and not core.has_work:
            break
    for index, prompt in enumerate(prompts):
        end = ear.end(f"r{index}")
        expected = plain(llama, prompt)
        got = ear.tokens(f"r{index}")
        assert got == expected[: len(got)]
        assert isinstance(end, Cancelled) or got == expected
    pool = core.tree.pool
    assert pool.num_available == pool.num_blocks


def test_sampling_draws_what_the_plain_loop_draws(llama: LanguageModel) -> None:
    core, ear = new_core(llama), Ear()
    prompt = prompts_of(5, [12])[0]
    for index in range(3):
        params = SamplingParams(max_tokens=12, temperature=0.8, seed=40 + index)
        core.add(ask(f"r{index}", prompt, params=params), ear)
    run_to_end(core)
    options = SamplingOptions(max_new_tokens=12, temperature=0.8, seed=40, eos_token_ids=())
    expected = generate(llama, [prompt] * 3, options)
    drawn = [ear.tokens(f"r{index}") for index in range(3)]
    assert drawn == [list(generation.token_ids) for generation in expected]
    assert drawn[0] != drawn[1]


def test_a_reproducible_request_gets_the_same_bits_alone_and_in_a_crowd(llama: LanguageModel) -> None:
    prompt = prompts_of(6, [37])[0]
    alone, crowd = Ear(), Ear()
    core = new_core(llama)
    core.add(ask("it", prompt, 12, is_reproducible=True), alone)
    run_to_end(core)
    core = new_core(llama)
    for index, other in enumerate(prompts_of(7, [20, 3, 39, 11])):
        core.add(ask(f"r{index}", other, 15), crowd)
    core.add(ask("it", prompt, 12, is_reproducible=True), crowd)
    run_to_end(core)
    assert alone.logprobs("it") == crowd.logprobs("it")
    assert alone.tokens("it") == crowd.tokens("it") == plain(llama, prompt, 12)


class Broken(Runner):
    """Raises, or gives NaN, wherever a prompt holds the token 91 or 92."""

    def run(self, work):  # noqa: ANN001, ANN201
        if any(91 in item.token_ids for item in work):
            raise RuntimeError("a kernel broke")
        rows = super().run(work)
        return [
            row * float("nan") if 92 in item.token_ids else row for item, row in zip(work, rows, strict=True)
        ]


@pytest.mark.parametrize("poison", [91, 92])
def test_one_that_breaks_breaks_alone(llama: LanguageModel, poison: int) -> None:
    core, ear = new_core(llama), Ear()
    core._runner = Broken(core._runner.graph, core.cache)
    prompts = prompts_of(8, [5, 6, 7])
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt), ear)
    core.add(ask("bad", [1, 2, poison]), ear)
    run_to_end(core)
    end = ear.end("bad")
    assert isinstance(end, Failed)
    assert isinstance(end.error, EngineFault)
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == plain(llama, prompt)
    pool = core.tree.pool
    assert pool.num_available == pool.num_blocks


@pytest.mark.parametrize("max_tokens", [0, 4])
def test_what_broke_is_shared_with_nobody(llama: LanguageModel, max_tokens: int) -> None:
    """Its keys and values are broken too; whoever asks the same later must not find them."""
    core, ear = new_core(llama), Ear()
    prompt = [*prompts_of(14, [40])[0], 92]
    whole = core._runner
    core._runner = Broken(whole.graph, core.cache)
    core.add(ask("bad", prompt, max_tokens), ear)
    run_to_end(core)
    assert isinstance(ear.end("bad"), Failed)
    core._runner = whole
    core.add(ask("good", prompt, 4), ear)
    run_to_end(core)
    end = ear.end("good")
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens == 0
    assert ear.tokens("good") == plain(llama, prompt, 4)
    core.add(ask("again", prompt, 4), ear)
    run_to_end(core)
    end = ear.end("again")
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens > 0


def test_an_ear_that_raises_loses_its_own_request_only(llama: LanguageModel) -> None:
    core, ear = new_core(llama), Ear()
    prompt = prompts_of(9, [6])[0]

    def deaf(event: object) -> None:
        raise ConnectionError("gone")

    core.add(ask("deaf", prompt, 1_000), deaf)
    core.add(ask("good", prompt), ear)
    run_to_end(core, limit=50)
    assert ear.tokens("good") == plain(llama, prompt)


def test_what_can_never_fit_is_refused_with_numbers(llama: LanguageModel) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    core, ear = new_core(llama, replace(SMALL, kv_cache_bytes=bytes_per_page * 3)), Ear()
    core.add(ask("large", prompts_of(10, [40])[0]), ear)
    run_to_end(core)
    end = ear.end("large")
    assert isinstance(end, Refused)
    assert any(character.isdigit() for character in end.message)


def test_prompt_logprobs_are_those_of_the_model(llama: LanguageModel) -> None:
    prompt = prompts_of(11, [30])[0]
    core, ear = new_core(llama), Ear()
    for request_id in ("warm", "it"):
        params = SamplingParams(
            max_tokens=2, temperature=0.0, prompt_logprobs=2 if request_id == "it" else None
        )
        core.add(ask(request_id, prompt, params=params), ear)
        run_to_end(core)
    told = [event for event in ear.events["it"] if isinstance(event, PromptLogprobs)]
    tokens = [token for event in told for token in event.tokens]
    assert [token.token_id for token in tokens] == prompt[1:]
    core = new_core(llama, replace(SMALL, max_num_batched_tokens=64, chunk_size=64))
    pages = tuple(range(4))
    rows = core._runner.run([Work(tuple(prompt), 0, pages, 30)])[0].log_softmax(-1)
    expected = rows[:-1].gather(1, torch.tensor(prompt[1:])[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([token.logprob for token in tokens]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
def test_a_prompt_may_be_read_and_nothing_chosen(llama: LanguageModel, length: int) -> None:
    prompt = prompts_of(12, [length])[0]
    told = []
    for max_tokens in (0, 1):
        core, ear = new_core(llama), Ear()
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0, prompt_logprobs=0)
        core.add(ask("it", prompt, params=params), ear)
        run_to_end(core)
        end = ear.end("it")
        assert isinstance(end, Finished)
        assert (end.reason, end.usage.completion_tokens) == (FinishReason.LENGTH, max_tokens)
        told.append([event for event in ear.events["it"] if isinstance(event, PromptLogprobs)])
    assert told[0] == told[1]
    assert sum(len(event.tokens) for event in told[0]) == length - 1


def test_requests_that_no_model_can_serve_are_refused_at_the_door(llama: LanguageModel) -> None:
    core = new_core(llama)
    with pytest.raises(InputError, match="vocabulary"):
        core.check(ask("r", [10_000]))
    with pytest.raises(InputTooLong, match="limit is"):
        core.check(ask("r", [1] * 10, 10**6))
    ear = Ear()
    core.add(ask("twin", [1]), Ear())
    core.add(ask("twin", [1]), ear)
    assert isinstance(ear.end("twin"), Failed)
    with pytest.raises(InputError, match="one page"):
        EngineCore(core._runner.graph, (), replace(SMALL, kv_cache_bytes=10), model_id="tiny")
