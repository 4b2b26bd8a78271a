"""Hold sessions against the plain loop: what is pinned or comes from disk changes no token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cache import PageNames, PageStore
from cynosure.core.errors import InputError
from cynosure.engine import Cancelled, Finished
from cynosure.engine.core import EngineCore
from cynosure.engine.session import Session
from cynosure.engine.session_pages import Disk
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of

SECRET = b"s" * 32
TALK = Session("talk", is_on_disk=True)


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PageStore]:
    store = PageStore(tmp_path / "cache", SECRET, 1 << 24)
    yield store
    store.close()


def core_on(
    model: LanguageModel, store: PageStore, dtype: str = "auto", identity: str = "build"
) -> EngineCore:
    """A new engine, as after a restart."""
    assert isinstance(model.graph, Decoder)
    settings = replace(SMALL, kv_cache_dtype=dtype)
    disk = Disk(store, PageNames(SECRET, identity, SMALL.block_size))
    return EngineCore(model.graph, (), settings, model_id="tiny", disk=disk)


def prompt_of(length: int, seed: int = 1) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 90) for _ in range(length)]


def plain(model: LanguageModel, prompt: list[int], max_tokens: int = 8) -> list[int]:
    options = SamplingOptions(max_new_tokens=max_tokens, eos_token_ids=())
    return list(generate(model, [prompt], options)[0].token_ids)


def answer(core: EngineCore, prompt: list[int], **options: object) -> tuple[list[int], int]:
    """The tokens, and how many of the prompt's were found."""
    ear = Ear()
    core.add(ask("r", prompt, **options), ear)
    run_to_end(core)
    end = ear.end("r")
    assert isinstance(end, Finished)
    return ear.tokens("r"), end.usage.cached_tokens


@pytest.mark.parametrize(
    ("dtype", "length", "num_found"),
    [
        *[("auto", length, found) for length, found in ((1, 0), (8, 0), (9, 8), (16, 8), (17, 16), (40, 32))],
        ("bfloat16", 17, 16),
        ("int8", 17, 16),
    ],
)
def test_after_a_restart_pages_are_found_and_change_nothing(
    llama: LanguageModel, store: PageStore, dtype: str, length: int, num_found: int
) -> None:
    prompt = prompt_of(length)
    first, _ = answer(core_on(llama, store, dtype), prompt, session=TALK)
    store.flush()
    core = core_on(llama, store, dtype)
    assert answer(core, prompt) == (first, num_found)
    statistics = core.tree.statistics
    assert (statistics.num_hits, statistics.num_misses) == (num_found // SMALL.block_size, 0)
    if dtype == "auto":
        assert first == plain(llama, prompt)


def test_the_next_turn_finds_what_was_answered_too(llama: LanguageModel, store: PageStore) -> None:
    history = prompt_of(20)
    said, _ = answer(core_on(llama, store), history, session=TALK)
    store.flush()
    history = [*history, *said, *prompt_of(6, seed=2)]
    again, num_found = answer(core_on(llama, store), history, session=TALK)
    assert num_found == 24
    assert again == plain(llama, history)
    store.flush()
    assert store.statistics.num_sessions == 1


@pytest.mark.parametrize("differs", ["tenant", "dtype", "build", "tokens", "session in memory"])
def test_what_differs_is_not_found(llama: LanguageModel, store: PageStore, differs: str) -> None:
    prompt = prompt_of(30)
    session = Session("talk") if differs == "session in memory" else TALK
    answer(core_on(llama, store), prompt, session=session, tenant="mine")
    store.flush()
    core = core_on(
        llama,
        store,
        dtype="bfloat16" if differs == "dtype" else "auto",
        identity="other" if differs == "build" else "build",
    )
    asked = [91, *prompt[1:]] if differs == "tokens" else prompt
    _, num_found = answer(core, asked, tenant="yours" if differs == "tenant" else "mine")
    assert num_found == 0


def test_a_spoilt_page_ends_what_is_found_and_changes_nothing(
    llama: LanguageModel, store: PageStore, tmp_path: Path
) -> None:
    prompt = prompt_of(40)
    core = core_on(llama, store)
    answer(core, prompt, session=TALK)
    store.flush()
    assert core.sessions.disk is not None
    key = core._key_of(ask("r", prompt))
    assert key is not None
    third = core.sessions.disk.names.pages(key, prompt)[2]
    file = tmp_path / "cache" / "pages" / third.hex()
    file.write_bytes(file.read_bytes()[::-1])
    assert answer(core_on(llama, store), prompt) == (plain(llama, prompt), 16)


def test_pages_that_are_in_memory_are_not_read_again(llama: LanguageModel, store: PageStore) -> None:
    prompt = prompt_of(40)
    answer(core_on(llama, store), prompt, session=TALK)
    store.flush()
    core = core_on(llama, store)
    answer(core, prompt[:20])
    assert store.statistics.num_read == 2
    answer(core, prompt)
    assert store.statistics.num_read == 4
    answer(core, prompt)
    assert store.statistics.num_read == 4


def test_more_pages_on_disk_than_in_memory_are_read_as_far_as_they_fit(
    llama: LanguageModel, store: PageStore
) -> None:
    prompt = prompt_of(60)
    core = core_on(llama, store)
    answer(core, prompt, session=TALK)
    store.flush()
    small = core_on(llama, store)
    taken = small.tree.pool.allocate(small.tree.pool.num_blocks - 4)
    assert taken is not None
    key = small._key_of(ask("r", prompt))
    assert key is not None
    assert small.sessions.restore(key, prompt) == 4
    small.tree.check([taken])
    small.tree.pool.release(taken)
    assert answer(small, prompt) == (plain(llama, prompt), 56)


def test_a_request_that_was_taken_back_is_kept_as_far_as_it_came(
    llama: LanguageModel, store: PageStore
) -> None:
    core, ear, prompt = core_on(llama, store), Ear(), prompt_of(20)
    core.add(ask("r", prompt, 40, session=TALK), ear)
    for now in range(6):
        core.step(float(now))
    core.cancel("r")
    assert isinstance(ear.end("r"), Cancelled)
    core.check_integrity()
    store.flush()
    assert answer(core_on(llama, store), prompt)[1] == 16


def test_one_that_was_taken_back_before_it_began_leaves_the_session_alone(
    llama: LanguageModel, store: PageStore
) -> None:
    core, ear, prompt = core_on(llama, store), Ear(), prompt_of(20)
    answer(core, prompt, session=TALK)
    core.add(ask("gone", prompt_of(9, seed=5), session=TALK), ear)
    core.cancel("gone")
    store.flush()
    assert core.sessions.num_sessions == 1
    assert answer(core_on(llama, store), prompt)[1] == 16


def test_a_session_outlasts_unnamed_requests(llama: LanguageModel) -> None:
    """The control: without a name the same pages have given way."""
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    settings = replace(SMALL, kv_cache_bytes=bytes_per_page * 20)
    found = {}
    for session in (None, Session("talk")):
        core, prompt = new_core(llama, settings), prompt_of(33)
        answer(core, prompt, session=session)
        for seed in range(2, 5):
            answer(core, prompt_of(60, seed))
        tokens, found[session] = answer(core, prompt, session=session)
        assert tokens == plain(llama, prompt)
    assert found == {None: 0, Session("talk"): 32}


def test_sessions_give_way_to_each_other_and_to_whoever_would_wait(llama: LanguageModel) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    core = new_core(llama, replace(SMALL, kv_cache_bytes=bytes_per_page * 16))
    for number in range(4):
        answer(core, prompt_of(17, number), session=Session(f"talk {number}"))
    assert core.sessions.num_sessions == 1  # of at most 4 pages, and each has 3
    long = prompt_of(110, 9)
    assert answer(core, long)[0] == plain(llama, long)
    assert core.sessions.num_sessions == 0


def test_a_session_that_can_not_be_kept_is_refused(llama: LanguageModel) -> None:
    core, prompt = new_core(llama), prompt_of(4)
    with pytest.raises(InputError, match="--cache-dir"):
        core.check(ask("r", prompt, session=TALK))
    core.check(ask("r", prompt, session=Session("talk")))
    bare = new_core(llama, replace(SMALL, has_prefix_cache=False))
    with pytest.raises(InputError, match="keeps no pages"):
        bare.check(ask("r", prompt, session=Session("talk")))
    with pytest.raises(InputError, match="reproducible"):
        ask("r", prompt, session=TALK, is_reproducible=True)
