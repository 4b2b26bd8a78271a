"""Window layers that keep their window alone answer what they answer when they keep all, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.attention.masks import Chunk, Mask, Window
from cynosure.cache import PageCounts, PageNames, PageStore
from cynosure.engine.core import EngineCore
from cynosure.engine.session import Session
from cynosure.engine.session_pages import Disk
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load
from cynosure.models.native.graph import use_kernels
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end
from tests.engine.window_cases import WINDOW, core_of, poison, told, whole, with_masks
from tests.models.decoder_oracle import pair_of

#: All layers have a window, and every second one.
NAMES = ("mistral", "gemma2")


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return pair_of(request.param).model


@pytest.fixture(scope="module")
def gemma() -> LanguageModel:
    return pair_of("gemma2").model


def prompts_of(*lengths: int, seed: int = 3) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(1, 90) for _ in range(length)] for length in lengths]


def held(core: EngineCore) -> list[int]:
    return [window.num_claimed for window in core.cache.windows]


@pytest.mark.parametrize(("chunk", "kv"), [(1, "auto"), (7, "auto"), (64, "auto"), (7, "int8")])
def test_chunks_of_any_size_in_a_mixed_batch(model: LanguageModel, chunk: int, kv: str) -> None:
    settings = replace(SMALL, chunk_size=chunk, max_num_batched_tokens=80, kv_cache_dtype=kv)
    prompts = prompts_of(30, 7, 8, 9, 1)
    core = core_of(model, settings)
    assert core.cache.windows
    assert told(core, prompts, 12) == told(whole(model, settings), prompts, 12)
    assert held(core) == [0]


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_on_the_native_kernels(name: str, kv: str) -> None:
    graph_of = load(pair_of(name).folder, dtype="float32")
    assert isinstance(graph_of.graph, Decoder)
    use_kernels(graph_of.graph, torch.float32, "native")
    settings = replace(SMALL, kv_cache_dtype=kv, kernels="torch")
    core, prompts = core_of(graph_of, settings), prompts_of(40, 9)
    assert not core._runner.refusal, "passes are one program"
    assert told(core, prompts) == told(whole(graph_of, settings), prompts)


@pytest.mark.parametrize("backend", ["reference", "tiled", "sdpa"])
def test_on_the_other_backends(gemma: LanguageModel, backend: str) -> None:
    """They read whole tiles, what a mask hides of them too."""
    core, prompts = core_of(gemma, backend=backend), prompts_of(40, 9)
    assert told(core, prompts, 8) == told(whole(gemma, backend=backend), prompts, 8)


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize("other", [Window(20), Chunk(20)], ids=repr)
def test_windows_of_two_sizes_and_chunks(gemma: LanguageModel, other: Mask, kv: str) -> None:
    model = with_masks(gemma, Window(9), other, Window(9))
    settings = replace(SMALL, kv_cache_dtype=kv)
    core = core_of(model, settings, counts=PageCounts(64, {9: 9, 20: 14}))
    long, short = prompts_of(44, 12)
    plain = whole(model, settings)
    for prompts in ([long], [[*long[:27], *short], short]):
        assert told(core, prompts, 10) == told(plain, prompts, 10)
    assert [window.max_held for window in core.cache.windows] == [4, 6]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_without_windows_nothing_is_different(name: str) -> None:
    core = core_of(pair_of(name).model)
    assert core.cache.windows == ()
    assert len(core.cache.places(torch.tensor([[0]]), [0], [1])) == 1


def test_nobody_reads_what_is_not_held(model: LanguageModel) -> None:
    """Spoilt pages reach no score; what a mask hides of blocks without a page is zeros, and stays so."""
    core, ear = core_of(model, counts=PageCounts(64, {WINDOW: 12})), Ear()
    prompts = prompts_of(34, 9)
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 24), ear)
    poison(core)
    while core.has_work:
        core.step(0.0)
        poison(core)
    expected = told(whole(model), prompts)
    assert {name: ear.tokens(name) for name in expected} == {
        name: tokens for name, (tokens, _) in expected.items()
    }
    for layer in range(len(core._runner.graph.cache_shapes)):
        if core.cache.group_of(layer):
            assert all(not pages[-1].any() for pages in core.cache.pages(layer))


def test_a_page_that_is_let_go_too_early_is_noticed(
    gemma: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control: a window that is a block short fails by the books, without them by its scores."""
    window = "cynosure.cache.window_pages.WindowPages"
    prompts, settings = prompts_of(44), replace(SMALL, has_prefix_cache=False)
    expected = told(whole(gemma, settings), prompts, 8)
    monkeypatch.setattr(f"{window}.first_block", lambda pages, count: max(0, count - 1) // pages.block_size)
    core, ear = core_of(gemma, settings), Ear()
    core.add(ask("r0", prompts[0], 8), ear)
    run_to_end(core)
    assert type(ear.end("r0")).__name__ == "Failed"
    monkeypatch.setattr("cynosure.cache.paged._check_held", lambda *_: None)
    assert told(core_of(gemma, settings), prompts, 8) != expected


def test_memory_is_bounded_as_the_context_grows() -> None:
    """The positive control is the pages of the layers that keep everything, which grow."""
    model = pair_of("gemma2").model
    largest, blocks = [], []
    for length in (24, 48, 96):
        core, ear = core_of(model), Ear()
        core.add(ask("r", prompts_of(length)[0], 16), ear)
        most = most_blocks = 0
        while core.has_work:
            core.step(0.0)
            most = max(most, held(core)[0])
            most_blocks = max(most_blocks, core.tree.pool.num_blocks - core.tree.pool.num_available)
        largest.append(most)
        blocks.append(most_blocks)
    bound = -(-WINDOW // SMALL.block_size) + -(-SMALL.chunk_size // SMALL.block_size) + 1
    assert max(largest) <= core_of(model).cache.windows[0].max_held <= bound
    assert largest[1] == largest[2]
    assert blocks[2] >= blocks[1] + 6 >= blocks[0] + 9


def test_a_known_beginning_is_found_and_changes_nothing(model: LanguageModel) -> None:
    long, other = prompts_of(44, 12)
    core, plain = core_of(model), whole(model)
    branch = [*long[:27], *other]
    for prompts in ([long], [long, branch], [[*long, *other]]):
        assert told(core, prompts, 6) == told(plain, prompts, 6)
    assert core.tree.statistics == plain.tree.statistics
    assert core.tree.statistics.num_hits > 10


def test_a_beginning_whose_window_gave_way_is_shortened_and_says_so(gemma: LanguageModel) -> None:
    long, other, third = prompts_of(40, 40, 40)
    core = core_of(gemma, counts=PageCounts(64, {WINDOW: 8}))
    ear = Ear()

    def found(name: str, prompt: list[int]) -> tuple[int, str]:
        core.add(ask(name, prompt, 2), ear)
        run_to_end(core)
        end = ear.end(name)
        return end.usage.cached_tokens, end.report.page_end  # type: ignore[union-attr]

    assert found("a", long) == (0, "new_key")
    assert found("b", [*long, 5]) == (40, "prompt_end")
    assert found("c", other) == (0, "new_tokens")
    assert found("d", third) == (0, "new_tokens")
    assert core.tree.peek(core._key_of(ask("e", long)), [*long, 5]) == 0  # type: ignore[arg-type]
    assert found("e", [*long, 5]) == (0, "window_evicted")
    assert ear.tokens("e") == told(whole(gemma), [[*long, 5]], 2)["r0"][0]
    assert found("f", [*long, 5]) == (40, "prompt_end"), "what is computed again is found again"


@pytest.mark.parametrize(("num_pages", "is_cached"), [(4, False), (7, False), (7, True)])
def test_preemption_and_waiting_for_pages_of_windows(
    model: LanguageModel, num_pages: int, is_cached: bool
) -> None:
    settings = replace(SMALL, has_prefix_cache=is_cached)
    core = core_of(model, settings, counts=PageCounts(40, {WINDOW: num_pages}))
    prompts = prompts_of(3, 20, 33, 9)
    tokens = {name: found for name, (found, _) in told(core, prompts, 16).items()}
    alone = {f"r{index}": told(whole(model), [one], 16)["r0"][0] for index, one in enumerate(prompts)}
    assert tokens == alone
    assert held(core) == [0]
    assert core.cache.windows[0].num_unreserved == num_pages


def test_short_sequences_are_preempted_when_they_grow(gemma: LanguageModel) -> None:
    """Each begins with one page, and may come to hold four, of which there are four in all."""
    settings = replace(SMALL, has_prefix_cache=False)
    core, ear = core_of(gemma, settings, counts=PageCounts(64, {WINDOW: 4})), Ear()
    prompts = prompts_of(2, 3)
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 28), ear)
    run_to_end(core)
    assert sum(ear.end(f"r{index}").report.num_preemptions for index in range(2)) > 0  # type: ignore[union-attr]
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == told(whole(gemma), [prompt], 28)["r0"][0]


def test_what_can_never_fit_is_refused(gemma: LanguageModel) -> None:
    core, ear = core_of(gemma, counts=PageCounts(64, {WINDOW: 3})), Ear()
    core.add(ask("large", [5] * 30, 8), ear)
    core.add(ask("small", [5] * 10, 8), ear)
    run_to_end(core)
    assert "needs 4 pages in layers with a window; they have 3" in ear.end("large").message  # type: ignore[union-attr]
    assert len(ear.tokens("small")) == 8


def test_reproducible_and_guessing_requests(gemma: LanguageModel) -> None:
    settings = replace(SMALL, num_speculative_tokens=20)
    prompt = prompts_of(6)[0] * 6
    core, plain = core_of(gemma, settings), whole(gemma, settings)
    assert told(core, [prompt, prompt[:11]], 40) == told(plain, [prompt, prompt[:11]], 40)
    assert core.load.num_drafted == plain.load.num_drafted > 0
    lone = told(core, [prompt], is_reproducible=True)
    assert lone == told(plain, [prompt], is_reproducible=True)


def test_pages_return_after_many_aborts(gemma: LanguageModel) -> None:
    dice = random.Random(4)
    core, ear = core_of(gemma, counts=PageCounts(40, {WINDOW: 9})), Ear()
    beginning = prompts_of(20)[0]
    for number in range(60):
        prompt = [*beginning[: dice.randrange(1, 20)], *prompts_of(dice.randrange(1, 30), seed=number)[0]]
        core.add(ask(f"r{number}", prompt, 20, is_reproducible=dice.random() < 0.2), ear)
        for _ in range(dice.randrange(4)):
            core.step(float(number))
        core.cancel(f"r{dice.randrange(max(0, number - 5), number + 1)}")
        core.check_integrity()
    for request_id in [*core._running, *core._waiting]:
        core.cancel(request_id)
    window = core.cache.windows[0]
    assert window.num_available == window.num_unreserved == window.num_pages
    assert core.tree.pool.num_available == 40
    core.tree.forget(lambda key: True)
    assert len(window._free) == window.num_pages


SECRET = b"s" * 32
TALK = Session("talk", is_on_disk=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PageStore]:
    store = PageStore(tmp_path / "cache", SECRET, 1 << 24)
    yield store
    store.close()


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_a_session_goes_on_after_a_restart(model: LanguageModel, store: PageStore, kv: str) -> None:
    settings = replace(SMALL, kv_cache_dtype=kv)
    disk = Disk(store, PageNames(SECRET, "build", SMALL.block_size))
    counts = PageCounts(64, {WINDOW: 8})
    history, plain = prompts_of(40)[0], whole(model, settings)
    for _ in range(3):
        core = core_of(model, settings, counts=counts, disk=disk)
        before = plain.tree.statistics.num_hits
        turn = told(core, [history], 8, session=TALK)
        assert turn == told(plain, [history], 8, session=Session("talk"))
        assert core.tree.statistics.num_hits == plain.tree.statistics.num_hits - before
        store.flush()
        history = [*history, *turn["r0"][0], *prompts_of(7, seed=len(history))[0]]
    assert store.statistics.num_read > 0


def test_what_a_window_lacks_is_read_back(gemma: LanguageModel, store: PageStore) -> None:
    """The tree still has the pages of the other layers; only those of windows gave way."""
    disk = Disk(store, PageNames(SECRET, "build", SMALL.block_size))
    core = core_of(gemma, counts=PageCounts(64, {WINDOW: 8}), disk=disk)
    history, plain = prompts_of(40)[0], whole(gemma)
    for one, session in ((core, TALK), (plain, None)):
        told(one, [history], 2, session=session)
    store.flush()
    core.sessions.give_way(64, 0)
    for prompt in prompts_of(40, 40, seed=9):
        told(core, [prompt], 2)
    key = core._key_of(ask("r", history))
    assert key is not None
    assert core.tree.num_known(key, history) == 5
    assert core.tree.peek(key, [*history, 5]) == 0
    before = core.tree.statistics.num_hits
    assert told(core, [[*history, 5]], 8) == told(plain, [[*history, 5]], 8)
    assert core.tree.statistics.num_hits - before == 5
