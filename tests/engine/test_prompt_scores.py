"""A prompt's tokens are scored from where it is asked on, and what stands before may come from kept pages."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cynosure.core.errors import InputError
from cynosure.engine import Finished, PromptLogprobs, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of

LENGTH, BLOCK = 30, SMALL.block_size
OFF = replace(SMALL, has_prefix_cache=False)


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


def prompt_of(seed: int, length: int = LENGTH) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 90) for _ in range(length)]


def scored(
    core: EngineCore, request_id: str, prompt: list[int], start: int, group: str | None = None
) -> tuple[dict[int, float], Finished]:
    """Log-probabilities by place, and how the request ended."""
    ear = Ear()
    params = SamplingParams(max_tokens=0, prompt_logprobs=0, prompt_logprobs_start=start)
    core.add(ask(request_id, prompt, params=params, group=group), ear)
    run_to_end(core)
    end = ear.end(request_id)
    assert isinstance(end, Finished)
    found: dict[int, float] = {}
    for event in ear.events[request_id]:
        if isinstance(event, PromptLogprobs):
            for place, token in enumerate(event.tokens, start=event.start):
                assert token.token_id == prompt[place]
                assert place not in found, "told twice"
                found[place] = token.logprob
    return found, end


@pytest.mark.parametrize("start", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 16, 17, LENGTH - 1])
@pytest.mark.parametrize("is_warm", [False, True])
def test_scores_from_a_place_on_are_those_of_the_whole(
    llama: LanguageModel, start: int, is_warm: bool
) -> None:
    prompt = prompt_of(1)
    whole, _ = scored(new_core(llama), "whole", prompt, 1)
    core = new_core(llama)
    if is_warm:
        core.add(ask("warm", prompt), Ear())
        run_to_end(core)
    found, end = scored(core, "it", prompt, start)
    assert sorted(found) == [*range(start, LENGTH)]
    assert [found[place] for place in found] == pytest.approx([whole[place] for place in found], abs=1e-5)
    # The token before the first that is scored must be computed.
    assert end.usage.cached_tokens == (((start - 1) // BLOCK) * BLOCK if is_warm else 0)


def test_fewer_logits_are_computed(llama: LanguageModel) -> None:
    wanted: dict[int, int] = {}
    for start in (1, LENGTH - 2):
        core = new_core(llama)
        run, counts = core._runner.run, []
        core._runner.run = lambda work, run=run, counts=counts: (  # type: ignore[method-assign]
            counts.extend(item.num_logits for item in work) or run(work)
        )
        scored(core, "it", prompt_of(2), start)
        wanted[start] = sum(counts)
    assert wanted == {1: LENGTH, LENGTH - 2: 3}


@pytest.mark.parametrize("settings", [SMALL, OFF], ids=["kept", "off"])
def test_a_group_reads_what_it_shares_once(llama: LanguageModel, settings: EngineSettings) -> None:
    shared = prompt_of(3, 24)
    core = new_core(llama, settings)
    results = []
    for place in range(4):
        results.append(scored(core, f"r{place}", [*shared, *prompt_of(10 + place, 3)], 24, group="g"))
    assert [end.usage.cached_tokens for _, end in results] == [0, 16, 16, 16]
    for place, (found, _) in enumerate(results):
        alone, _ = scored(new_core(llama), "alone", [*shared, *prompt_of(10 + place, 3)], 24)
        assert [*found.values()] == pytest.approx([*alone.values()], abs=1e-5)


def test_without_a_cache_nothing_leaves_the_group(llama: LanguageModel) -> None:
    core, prompt = new_core(llama, OFF), prompt_of(4)
    _, first = scored(core, "r0", prompt, LENGTH - 1, group="g")
    _, other = scored(core, "r1", prompt, LENGTH - 1, group="h")
    _, alone = scored(core, "r2", prompt, LENGTH - 1)
    _, again = scored(core, "r3", prompt, LENGTH - 1, group="g")
    cached = [end.usage.cached_tokens for end in (first, other, alone, again)]
    assert cached == [0, 0, 0, 24]


def test_a_group_is_one_tenant_s(llama: LanguageModel) -> None:
    for settings in (SMALL, OFF):
        core, prompt = new_core(llama, settings), prompt_of(5)
        for place, tenant in enumerate(["a", "b"]):
            ear = Ear()
            core.add(ask(f"r{place}", prompt, tenant=tenant, group="g"), ear)
            run_to_end(core)
            end = ear.end(f"r{place}")
            assert isinstance(end, Finished)
            assert end.usage.cached_tokens == 0


def test_the_first_token_has_no_chance() -> None:
    with pytest.raises(InputError, match="prompt_logprobs_start is 0; the limit is 1"):
        SamplingParams(max_tokens=0, prompt_logprobs=0, prompt_logprobs_start=0)
