"""An engine over int8 pages says the same whatever happens to a request's pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cynosure.cache import bytes_per_block
from cynosure.core.errors import UnknownOption
from cynosure.engine.core import EngineCore
from cynosure.engine.request import Finished
from cynosure.engine.settings import EngineSettings
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of

CODES = replace(SMALL, kv_cache_dtype="int8")


def answers(core: EngineCore, prompts: Sequence[Sequence[int]], tenant: str = "ann") -> list[list[int]]:
    ear = Ear()
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 12, tenant=tenant), ear)
    run_to_end(core)
    assert all(isinstance(ear.end(f"r{index}"), Finished) for index in range(len(prompts)))
    return [ear.tokens(f"r{index}") for index in range(len(prompts))]


@pytest.fixture
def expected() -> list[list[int]]:
    """Each prompt's answer, alone in an engine of its own."""
    pair = pair_of("llama")
    return [answers(new_core(pair.model, CODES), [prompt])[0] for prompt in pair.prompts]


def test_a_batch_and_a_prefix_hit_say_what_one_alone_says(expected: list[list[int]]) -> None:
    pair = pair_of("llama")
    core = new_core(pair.model, CODES)
    assert answers(core, pair.prompts) == expected
    assert core.snapshot.num_cached_blocks > 0
    ear = Ear()
    core.add(ask("again", pair.prompts[0], 12, tenant="ann"), ear)
    run_to_end(core)
    end = ear.end("again")
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens == 40
    assert ear.tokens("again") == expected[0]


def test_preempted_requests_go_on_as_if_nothing_had_been(expected: list[list[int]]) -> None:
    pair = pair_of("llama")
    size = bytes_per_block(pair.graph.cache_shapes, new_core(pair.model, CODES).cache.dtype, 8)
    tight = replace(CODES, kv_cache_bytes=9 * size, has_prefix_cache=False)
    core = new_core(pair.model, tight)
    preempted = []
    release = core.step

    def step(now: float) -> None:
        before = core.snapshot.num_running
        release(now)
        preempted.append(core.snapshot.num_running < before and core.snapshot.num_waiting > 0)

    core.step = step  # type: ignore[method-assign]
    assert answers(core, pair.prompts) == expected
    assert any(preempted)


def test_the_same_memory_holds_more_pages_of_codes() -> None:
    """Width 16 in float32: 64 bytes become 16 and a scale of 4."""
    pair = pair_of("llama")
    wide, narrow = (
        new_core(pair.model, replace(SMALL, kv_cache_dtype=name)).snapshot.num_blocks
        for name in ("auto", "int8")
    )
    assert narrow >= 3 * wide


def test_pages_of_another_dtype_are_under_another_key() -> None:
    cores = [
        new_core(pair_of("llama").model, replace(SMALL, kv_cache_dtype=name))
        for name in ("auto", "int8", "bfloat16")
    ]
    keys = {core._key_of(ask("a", [1])) for core in cores}
    assert len(keys) == 3
    assert None not in keys


def test_a_dtype_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownOption, match="kv_cache_dtype is 'int4'; choose one of auto"):
        EngineSettings(kv_cache_dtype="int4")
