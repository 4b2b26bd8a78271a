"""Hold adapted requests against the plain loop: in one batch, in pages, through preemption, in company."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cache import PageNames, PageStore
from cynosure.core.errors import InputError, NotFound
from cynosure.engine import Failed, Finished, SamplingParams
from cynosure.engine.adapters import FindAdapter
from cynosure.engine.core import EngineCore
from cynosure.engine.page_selection import PageSelection
from cynosure.engine.session import Session
from cynosure.engine.session_pages import Disk
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import WatchSpec
from cynosure.kernels import why_none
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel, load
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.engine.test_core import prompts_of
from tests.models.adapters.random_adapters import random_adapter
from tests.models.decoder_oracle import pair_of

needs_kernels = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")
NAMES = (None, "a0", "a1", "a2")


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


@pytest.fixture(scope="module")
def adapters(llama: LanguageModel) -> dict[str, Adapter]:
    return {f"a{seed}": random_adapter(llama, seed) for seed in range(3)}


def finder(adapters: dict[str, Adapter]) -> FindAdapter:
    """What a bank does: by name, or by identity."""

    def find(name: str) -> Adapter:
        for adapter in adapters.values():
            if name in (adapter.name, adapter.identity):
                return adapter
        raise NotFound(f"no adapter is called {name!r}.")

    return find


def adapted_core(
    model: LanguageModel, adapters: dict[str, Adapter], settings: EngineSettings = SMALL
) -> EngineCore:
    core = new_core(model, settings)
    core.adapters = finder(adapters)
    return core


def plain(model: LanguageModel, prompt: list[int], adapter: Adapter | None, max_tokens: int = 4) -> list[int]:
    options = SamplingOptions(max_new_tokens=max_tokens, eos_token_ids=())
    return list(generate(model, [prompt], options, adapters=[adapter])[0].token_ids)


def test_three_adapters_and_none_in_one_batch(llama: LanguageModel, adapters: dict[str, Adapter]) -> None:
    """Prompts come in chunks, mixed with decoding, and each gives what the plain loop gives it alone."""
    core, ear = adapted_core(llama, adapters), Ear()
    prompts = prompts_of(1, [1, 7, 8, 9, 31, 40, 3, 17])
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 4, adapter=NAMES[index % 4]), ear)
    run_to_end(core)
    for index, prompt in enumerate(prompts):
        name = NAMES[index % 4]
        assert ear.tokens(f"r{index}") == plain(llama, prompt, adapters.get(name or ""), 4)
    same = prompts_of(2, [12])[0]
    assert len({tuple(plain(llama, same, adapters.get(name or ""))) for name in NAMES}) == 4


def test_preemption_changes_nothing(llama: LanguageModel, adapters: dict[str, Adapter]) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    core = adapted_core(llama, adapters, replace(SMALL, kv_cache_bytes=bytes_per_page * 9))
    ear, prompts = Ear(), prompts_of(2, [9, 10, 11, 12])
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 20, adapter=NAMES[index]), ear)
    run_to_end(core)
    ends = [ear.end(f"r{index}") for index in range(4)]
    assert any(end.report is not None and end.report.num_preemptions for end in ends)
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == plain(llama, prompt, adapters.get(NAMES[index] or ""), 20)


def test_pages_belong_to_one_content_of_one_adapter(
    llama: LanguageModel, adapters: dict[str, Adapter]
) -> None:
    held = dict(adapters)
    core, ear = adapted_core(llama, held), Ear()
    prompt = prompts_of(3, [30])[0]

    def cached(request_id: str, name: str | None) -> int:
        core.add(ask(request_id, prompt, 2, adapter=name), ear)
        run_to_end(core)
        assert ear.tokens(request_id) == plain(llama, prompt, held.get(name or ""), 2)
        return ear.end(request_id).usage.cached_tokens

    assert [cached("r0", "a0"), cached("r1", "a1"), cached("r2", None)] == [0, 0, 0]
    # The positive control: each finds its own.
    assert [cached("r3", "a0"), cached("r4", "a1"), cached("r5", None)] == [24, 24, 24]
    held["a0"] = random_adapter(llama, 7, name="a0")
    assert cached("r6", "a0") == 0
    assert cached("r7", "a0") == 24


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PageStore]:
    store = PageStore(tmp_path / "cache", b"s" * 32, 1 << 24)
    yield store
    store.close()


def test_sessions_on_disk_belong_to_one_content_too(
    llama: LanguageModel, adapters: dict[str, Adapter], store: PageStore
) -> None:
    prompt = prompts_of(4, [30])[0]
    session = Session("talk", is_on_disk=True)

    def cached(adapter: Adapter) -> int:
        """In a new engine, as after a restart."""
        assert isinstance(llama.graph, Decoder)
        disk = Disk(store, PageNames(b"s" * 32, "build", SMALL.block_size))
        core, ear = EngineCore(llama.graph, (), SMALL, model_id="tiny", disk=disk), Ear()
        core.adapters = finder({adapter.name: adapter})
        core.add(ask("r", prompt, adapter=adapter.name, session=session), ear)
        run_to_end(core)
        store.flush()
        return ear.end("r").usage.cached_tokens

    first, other = adapters["a1"], random_adapter(llama, 9, name="a1")
    assert [cached(first), cached(other), cached(first), cached(other)] == [0, 0, 24, 24]


@needs_kernels
@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_requests_without_an_adapter_keep_their_bits(quantize: str | None) -> None:
    """Beside adapted ones, on native kernels: the log-probabilities of an engine that knows no adapters."""
    model = load(pair_of("llama").folder, dtype="bfloat16", quantize=quantize)
    held, found = {"a1": random_adapter(pair_of("llama").model, 1)}, []
    for beside in (0, 3):
        core, ear = adapted_core(model, held), Ear()
        assert not core._runner.step_refusal
        for index in range(beside):
            core.add(ask(f"other{index}", [5 + index], 12, adapter="a1"), ear)
        core.add(ask("it", [3, 1, 4, 1, 5], 12), ear)
        run_to_end(core)
        assert all(isinstance(ear.end(f"other{index}"), Finished) for index in range(beside))
        found.append(ear.logprobs("it"))
    assert found[0] == found[1]


@needs_kernels
@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_a_reproducible_request_keeps_its_bits_in_company(quantize: str | None) -> None:
    model = load(pair_of("llama").folder, dtype="bfloat16", quantize=quantize)
    held = {f"a{seed}": random_adapter(pair_of("llama").model, seed) for seed in range(3)}
    found = []
    for num_others in (0, 3):
        core, ear = adapted_core(model, held), Ear()
        for index in range(num_others):
            core.add(ask(f"other{index}", [5 + index] * 9, 12, adapter=NAMES[index]), ear)
        core.add(ask("it", [3, 1, 4, 1, 5] * 3, 12, adapter="a2", is_reproducible=True), ear)
        run_to_end(core)
        found.append(ear.logprobs("it"))
    assert found[0] == found[1]


@needs_kernels
def test_native_codes_choose_what_the_plain_loop_chooses(llama: LanguageModel) -> None:
    """A base in int8: the loop dequantises, the engine multiplies codes; their best guesses are the same."""
    folder = pair_of("llama").folder
    adapter = random_adapter(llama, 1)
    prompt = prompts_of(5, [20])[0]
    core, ear = adapted_core(load(folder, dtype="float32", quantize="int8"), {"a1": adapter}), Ear()
    core.add(ask("r", prompt, 2, adapter="a1"), ear)
    run_to_end(core)
    slow = load(folder, dtype="float32", quantize="int8")
    assert ear.tokens("r") == plain(slow, prompt, adapter, 2)
    assert ear.tokens("r") != plain(slow, prompt, None, 2)


def test_guesses_scores_and_shares_are_those_of_the_adapted_model(
    llama: LanguageModel, adapters: dict[str, Adapter]
) -> None:
    settings = replace(SMALL, num_speculative_tokens=3)
    core, ear = adapted_core(llama, adapters, settings), Ear()
    prompt = [3, 1, 4, 1, 5, 3, 1, 4, 1, 5, 3, 1, 4]
    watch = WatchSpec(((1, 2),), ((0, 0, 6), (1, 6, 13)), 2)
    core.add(ask("r", prompt, 12, adapter="a1", watch=watch), ear)
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    core.add(ask("scored", prompt, params=params, adapter="a1"), ear)
    run_to_end(core)
    assert ear.tokens("r") == plain(llama, prompt, adapters["a1"], 12)
    assert isinstance(ear.end("scored"), Finished)


def test_what_is_not_here_is_refused_by_name(llama: LanguageModel, adapters: dict[str, Adapter]) -> None:
    core, ear = new_core(llama), Ear()
    with pytest.raises(InputError, match=r"'a1' is asked for, and this engine takes none.*--enable-lora"):
        core.check(ask("r", [1], adapter="a1"))
    core.adapters = finder(adapters)
    with pytest.raises(NotFound, match="nobody"):
        core.check(ask("r", [1], adapter="nobody"))
    # One that went between the check and the engine's thread ends its request only.
    core.add(ask("r", [1], adapter="nobody"), ear)
    end = ear.end("r")
    assert isinstance(end, Failed)
    assert isinstance(end.error, NotFound)
    with pytest.raises(InputError, match="has an adapter, whose passes are run by modules"):
        ask("r", [1], adapter="a1", page_selection=PageSelection(4))
