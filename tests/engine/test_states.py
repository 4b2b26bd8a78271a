"""Models with states answer through the engine what the plain loop answers, whatever happens on the way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from cynosure.cache import StateStore
from cynosure.core.errors import InputError
from cynosure.engine import Failed, Finished, cache_memory
from cynosure.engine.core import EngineCore
from cynosure.engine.session import Session
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import WatchSpec
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.mixer_oracle import FIRST, pair_of

NAMES = sorted(FIRST)
BLOCK = SMALL.block_size
NUM_NEW = 10


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return pair_of(request.param).model


@pytest.fixture
def mamba() -> LanguageModel:
    return pair_of("mamba2").model


def prompts_of(*lengths: int, seed: int = 3) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(1, 190) for _ in range(length)] for length in lengths]


def slot_bytes(model: LanguageModel) -> int:
    assert isinstance(model.graph, Decoder)
    return cache_memory.bytes_per_slot(model.graph.state_shapes, model.graph.dtype)


def plain(model: LanguageModel, prompt: Sequence[int], num_new: int = NUM_NEW) -> list[int]:
    """What the plain loop says; it knows no slots, no chunks and no neighbours."""
    return list(generate(model, [prompt], SamplingOptions(num_new, eos_token_ids=()))[0].token_ids)


def check(model: LanguageModel, ear: Ear, prompts: dict[str, Sequence[int]], num_new: int = NUM_NEW) -> None:
    for request_id, prompt in prompts.items():
        assert isinstance(ear.end(request_id), Finished), ear.end(request_id)
        assert ear.tokens(request_id) == plain(model, prompt, num_new), request_id


def said(
    core: EngineCore, request_id: str, prompt: Sequence[int], num_new: int = 6, **options: object
) -> Ear:
    ear = Ear()
    core.add(ask(request_id, prompt, num_new, **options), ear)
    run_to_end(core)
    return ear


def cached(core: EngineCore, prompt: Sequence[int], **options: object) -> int:
    end = said(core, "one", prompt, **options).end("one")
    assert isinstance(end, Finished)
    return end.usage.cached_tokens


@pytest.mark.parametrize(
    ("name", "chunk"), [("mamba2", 1), *((name, 7) for name in NAMES), ("bamba", 64), ("recurrent-gemma", 1)]
)
def test_chunks_of_any_size_in_a_mixed_batch(name: str, chunk: int) -> None:
    model = pair_of(name).model
    settings = replace(SMALL, chunk_size=chunk, max_num_batched_tokens=80)
    core, ear = new_core(model, settings), Ear()
    prompts = dict(zip("abcde", prompts_of(25, 7, 8, 9, 1), strict=True))
    for request_id, prompt in prompts.items():
        core.add(ask(request_id, prompt, NUM_NEW), ear)
        core.step(0.0)
    run_to_end(core)
    check(model, ear, prompts)


@pytest.mark.parametrize("name", NAMES)
def test_after_preemption(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are scarce: of a model without any, it is their names that are."""
    model = pair_of(name).model
    assert isinstance(model.graph, Decoder)
    settings = replace(SMALL, has_prefix_cache=False)
    page = cache_memory.bytes_per_block(model.graph.cache_shapes, model.graph.dtype, BLOCK)
    if page:
        monkeypatch.setattr(
            cache_memory,
            "page_counts",
            lambda *_: cache_memory.PageCounts(14, {}),
        )
    else:
        monkeypatch.setattr(cache_memory, "LONGEST_UNBOUNDED", 28)
        monkeypatch.setattr(model.graph, "spec", replace(model.graph.spec, max_model_len=None))
    core, ear = new_core(model, settings), Ear()
    prompts = dict(zip("abc", prompts_of(30, 28, 26), strict=True))
    for request_id, prompt in prompts.items():
        core.add(ask(request_id, prompt, 20), ear)
    run_to_end(core)
    assert sum(ear.end(name).report.num_preemptions for name in prompts) > 0
    check(model, ear, prompts, 20)


def test_nobody_reads_what_is_not_theirs(model: LanguageModel) -> None:
    """Slots that nobody holds are spoilt before every step."""
    core, ear = new_core(model), Ear()
    prompts = dict(zip("abc", prompts_of(34, 9, 40), strict=True))
    states, slots = core.cache.states, core.tree.pool.states
    assert states is not None
    assert slots is not None

    def spoil() -> None:
        for kept in states._layers.values():
            for tensor in (kept.tail, kept.matrix):
                tensor[[*slots._free, *slots._free_copies]] = float("nan")

    spoil()
    for request_id, prompt in prompts.items():
        core.add(ask(request_id, prompt, NUM_NEW), ear)
    while core.has_work:
        core.step(0.0)
        spoil()
    check(model, ear, prompts)


def test_prompts_and_answers_are_found_again(model: LanguageModel) -> None:
    """The end of a prompt, under a longer one, and the end of an answer in the next turn."""
    core = new_core(model)
    first, tail, more = prompts_of(30, 9, 5)
    assert [cached(core, first, num_new=1), cached(core, first, num_new=1)] == [0, 24]
    longer = [*first, *tail]
    ear = said(core, "longer", longer, NUM_NEW)
    assert ear.end("longer").usage.cached_tokens == 24
    answer = ear.tokens("longer")
    assert answer == plain(model, longer)
    turn = [*longer, *answer, *more]
    ear = said(core, "turn", turn, NUM_NEW)
    # The last token that was chosen was never read.
    assert ear.end("turn").usage.cached_tokens == (39 + NUM_NEW - 1) // BLOCK * BLOCK
    check(model, ear, {"turn": turn})


@pytest.mark.parametrize("name", ["mamba2", "recurrent-gemma"])
def test_where_two_prompts_part_is_kept_for_the_third(name: str) -> None:
    """The second shows that a beginning is shared: what is known goes on past the last state."""
    model = pair_of(name).model
    common, *ends = prompts_of(27, 9, 9, 9)
    core = new_core(model)
    ears = [said(core, f"r{index}", [*common, *end], NUM_NEW) for index, end in enumerate(ends)]
    reports = [ear.end(f"r{index}").report for index, ear in enumerate(ears)]
    assert [report.num_pages_found for report in reports] == [0, 0, 3]
    assert [report.page_end for report in reports] == ["new_key", "no_state", "new_tokens"]
    check(model, ears[2], {"r2": [*common, *ends[2]]})


def test_another_tenant_never_finds_a_state(mamba: LanguageModel) -> None:
    core, prompt = new_core(mamba), prompts_of(30)[0]
    assert cached(core, prompt, tenant="ann") == 0
    assert cached(core, prompt, tenant="bob") == 0
    # The positive control, and that neither took the other's place.
    assert cached(core, prompt, tenant="ann") == 24
    assert cached(core, prompt, tenant="bob") == 24


def test_without_a_prefix_cache_nothing_is_copied(mamba: LanguageModel) -> None:
    core, prompt = new_core(mamba, replace(SMALL, has_prefix_cache=False)), prompts_of(30)[0]
    assert [cached(core, prompt), cached(core, prompt)] == [0, 0]
    assert core.tree.pool.states is not None
    assert core.tree.pool.states.num_kept == 0


def test_old_copies_give_way(mamba: LanguageModel) -> None:
    """Five slots: four sequences, one copy."""
    settings = replace(SMALL, kv_cache_bytes=5 * slot_bytes(mamba))
    core = new_core(mamba, settings)
    assert core.tree.pool.states is not None
    assert (core.tree.pool.states.num_running, core.tree.pool.states.num_kept) == (4, 1)
    one, other = prompts_of(30, 30)
    # An answer too short to reach the next page leaves the copy behind the prompt.
    assert [cached(core, prompt, num_new=1) for prompt in (one, one, other, one)] == [0, 24, 0, 0]
    assert core.tree.pool.states.num_copies == 1


def test_as_many_run_as_have_a_state(mamba: LanguageModel) -> None:
    core, ear = new_core(mamba, replace(SMALL, kv_cache_bytes=2 * slot_bytes(mamba))), Ear()
    prompts = dict(zip("abcde", prompts_of(9, 30, 8, 17, 1), strict=True))
    for request_id, prompt in prompts.items():
        core.add(ask(request_id, prompt, NUM_NEW), ear)
    most = 0
    while core.has_work:
        core.step(0.0)
        core.check_integrity()
        most = max(most, core.snapshot.num_running)
    assert most == 2
    assert all(not ear.end(name).report.num_preemptions for name in prompts)
    check(mamba, ear, prompts)


def test_a_memory_that_holds_no_state_is_refused(mamba: LanguageModel) -> None:
    with pytest.raises(InputError, match="the state of one sequence"):
        new_core(mamba, replace(SMALL, kv_cache_bytes=slot_bytes(mamba) - 1))
    assert new_core(mamba, replace(SMALL, kv_cache_bytes=slot_bytes(mamba))).load.kv_cache_usage == 0.0


@pytest.mark.parametrize("name", ["mamba2", "recurrent-gemma"])
def test_slots_return_after_aborts(name: str) -> None:
    model = pair_of(name).model
    core, ear, dice = new_core(model), Ear(), random.Random(5)
    shared = prompts_of(40)[0]
    for index in range(80):
        request_id = f"r{index}"
        prompt = [*shared[: dice.randrange(1, 40)], dice.randrange(1, 190)]
        core.add(ask(request_id, prompt, 4), ear)
        for _ in range(dice.randrange(4)):
            core.step(float(index))
        core.cancel(request_id)
        if index % 20 == 0:
            core.check_integrity()
    core.check_integrity()
    slots = core.tree.pool.states
    assert slots is not None
    assert slots.num_free == slots.num_running
    assert core.snapshot.num_free_blocks + core.snapshot.num_cached_blocks == core.snapshot.num_blocks
    assert said(core, "last", shared, NUM_NEW).tokens("last") == plain(model, shared)


def _breaking(core: EngineCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every pass over more than one sequence break when all layers are done."""
    graph = core._runner.graph
    logits = graph.logits

    def broken(hidden: torch.Tensor) -> torch.Tensor:
        if len(hidden) > 1:
            raise RuntimeError("out of luck")
        return logits(hidden)

    monkeypatch.setattr(graph, "logits", broken)


def test_a_pass_that_breaks_late_leaves_states_as_they_were(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, ear = new_core(model), Ear()
    prompts = dict(zip("abc", prompts_of(12, 9, 5), strict=True))
    expected = {name: plain(model, prompt) for name, prompt in prompts.items()}
    _breaking(core, monkeypatch)
    for request_id, prompt in prompts.items():
        core.add(ask(request_id, prompt, NUM_NEW), ear)
    run_to_end(core)
    assert {name: ear.tokens(name) for name in prompts} == expected


def test_a_state_that_goes_on_twice_is_noticed(mamba: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control: states that are written at once have seen a token too many, and say so."""
    put = StateStore.put

    def at_once(store: StateStore, layer: int, slots: Sequence[int], state: object) -> None:
        put(store, layer, slots, state)  # type: ignore[arg-type]
        store.commit()

    core, ear = new_core(mamba), Ear()
    _breaking(core, monkeypatch)
    monkeypatch.setattr(StateStore, "put", at_once)
    for request_id, prompt in zip("abc", prompts_of(12, 9, 5), strict=True):
        core.add(ask(request_id, prompt, NUM_NEW), ear)
    while core.has_work:
        core.step(0.0)
    ends = [ear.end(request_id) for request_id in "abc"]
    assert any(isinstance(end, Failed) and "has seen" in str(end.error) for end in ends)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bias": ((0, 1, float("-inf")),)}, "denied"),
        ({"watch": WatchSpec(((1, 0),), ((0, 0, 3),), 1)}, "not watched"),
        ({"session": Session("s")}, "session"),
        ({"speculation": True}, "guesses no tokens"),
    ],
)
def test_what_is_not_done_is_refused_by_name(options: dict[str, object], named: str) -> None:
    for name in ("mamba2", "bamba"):
        core = new_core(pair_of(name).model, replace(SMALL, num_speculative_tokens=4))
        with pytest.raises(InputError, match=named):
            core.check(ask("r", [1, 2, 3], **options))


def test_nothing_is_guessed(mamba: LanguageModel) -> None:
    """What repeats itself would be guessed at once; the report says that nothing was."""
    core = new_core(mamba, replace(SMALL, num_speculative_tokens=4))
    prompt = prompts_of(6)[0] * 4
    ear = said(core, "r", prompt, NUM_NEW)
    check(mamba, ear, {"r": prompt})
    assert ear.end("r").report.num_drafted == 0
    assert core.load.num_drafted == 0


@pytest.mark.parametrize("name", ["mamba2", "qwen3-next"])
def test_reproducible_requests_keep_their_bits(name: str) -> None:
    model = pair_of(name).model
    prompt, *others = prompts_of(21, 30, 9)
    alone = said(new_core(model), "r", prompt, 5, is_reproducible=True)
    core, ear = new_core(model), Ear()
    for index, other in enumerate(others):
        core.add(ask(f"o{index}", other, 12), ear)
    core.step(0.0)
    core.add(ask("r", prompt, 5, is_reproducible=True), ear)
    run_to_end(core)
    assert (ear.tokens("r"), ear.logprobs("r")) == (alone.tokens("r"), alone.logprobs("r"))


def test_pages_of_a_hybrid_may_be_codes() -> None:
    """States stay exact; keys in eight bits change little."""
    model, prompt = pair_of("bamba").model, prompts_of(30)[0]
    wide, narrow = (
        said(new_core(model, replace(SMALL, kv_cache_dtype=kv)), "r", prompt) for kv in ("auto", "int8")
    )
    gaps = [abs(a - b) for a, b in zip(wide.logprobs("r"), narrow.logprobs("r"), strict=True)]
    assert 0 < max(gaps) < 0.1


def test_a_prompt_that_is_only_read() -> None:
    """No token is asked for; the state behind it is kept all the same."""
    core, prompt = new_core(pair_of("mamba2").model), prompts_of(30)[0]
    assert cached(core, prompt, num_new=0) == 0
    assert cached(core, prompt) == 24


def test_settings_say_how_a_memory_is_shared(mamba: LanguageModel) -> None:
    hybrid = pair_of("bamba").model
    memory = 40 * slot_bytes(hybrid)
    core = new_core(hybrid, EngineSettings(kv_cache_bytes=memory, max_num_seqs=8, block_size=BLOCK))
    assert core.tree.pool.states is not None
    assert (core.tree.pool.states.num_running, core.tree.pool.states.num_kept) == (8, 12)
    assert core.cache.num_bytes <= memory
    assert core.cache.num_bytes > memory - core.cache.page_bytes() - slot_bytes(hybrid)
