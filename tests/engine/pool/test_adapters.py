"""Adapters come and go in a pool while requests use them, within limits; who asks for none is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cynosure.core.errors import CheckpointNotFound, InputError, ModelTooLarge, NotFound, UnsupportedConfig
from cynosure.engine import Finished, TokenEvent
from cynosure.engine.pool.pool import ModelPool
from cynosure.models.adapters.folder import read_adapter
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.adapters.targets import Base
from tests.engine.pool.pool_cases import Waiting, ask, served, settings
from tests.engine.test_adapters import plain
from tests.engine.test_core import prompts_of
from tests.models.adapters.peft_folders import write_adapter
from tests.models.decoder_oracle import pair_of

LIMITS = AdapterLimits(max_adapters=2, max_rank=8, max_bytes=1 << 20)
PROMPT = prompts_of(6, [9])[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of the tiny Llama."""
    root = tmp_path_factory.mktemp("adapters")
    for seed in range(3):
        write_adapter(pair_of("llama").oracle, root / str(seed), seed, target_modules=["q_proj", "up_proj"])
    return [root / str(seed) for seed in range(3)]


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    pool = ModelPool([served("llama"), served("gpt2"), served("t5")], settings(adapters=LIMITS))
    yield pool
    pool.close()


def expected(folder: Path, max_tokens: int = 8) -> list[int]:
    model = pair_of("llama").model
    return plain(model, PROMPT, read_adapter("x", folder, Base(model.brand, model.spec)), max_tokens)


def test_adapters_answer_beside_their_model(pool: ModelPool, folders: list[Path]) -> None:
    ear = Waiting()
    for name, folder in zip("ab", folders, strict=False):
        pool.load_adapter("llama", name, folder).result(60)
    for name in (None, "a", "b"):
        pool.submit("llama", ask(f"r-{name}", PROMPT, adapter=name), ear)
    ear.wait("r-None", "r-a", "r-b")
    assert ear.tokens("r-None") == plain(pair_of("llama").model, PROMPT, None, 8)
    assert ear.tokens("r-a") == expected(folders[0])
    assert ear.tokens("r-b") == expected(folders[1])


def test_an_adapter_outlives_its_model_in_memory(pool: ModelPool, folders: list[Path]) -> None:
    ear = Waiting()
    pool.load_adapter("llama", "a", folders[0]).result(60)
    assert not pool.cards()["llama"].is_loaded
    for request_id in ("first", "again"):
        pool.submit("llama", ask(request_id, PROMPT, adapter="a"), ear)
        ear.wait(request_id)
        assert ear.tokens(request_id) == expected(folders[0])
        pool.unload("llama")


def test_who_is_under_way_ends_with_what_he_began_with(pool: ModelPool, folders: list[Path]) -> None:
    """Taken out, and another put in its place, while an answer is half told."""
    pool.load_adapter("llama", "a", folders[0]).result(60)
    begun, ear = threading.Event(), Waiting()

    def hear(event: object) -> None:
        ear(event)  # type: ignore[arg-type]
        if isinstance(event, TokenEvent):
            begun.set()

    pool.submit("llama", ask("old", PROMPT, 60, adapter="a"), hear)
    assert begun.wait(60)
    gone = pool.unload_adapter("llama", "a")
    assert not gone.done()
    with pytest.raises(NotFound, match="no adapter 'a'; here: none"):
        pool.submit("llama", ask("late", PROMPT, adapter="a"), ear)
    pool.load_adapter("llama", "a", folders[1]).result(60)
    pool.submit("llama", ask("new", PROMPT, adapter="a"), ear)
    ear.wait("old", "new")
    gone.result(60)
    assert isinstance(ear.end("old"), Finished)
    assert ear.tokens("old") == expected(folders[0], 60)
    assert ear.tokens("new") == expected(folders[1])


def test_limits(pool: ModelPool, folders: list[Path]) -> None:
    for name, folder in zip("ab", folders, strict=False):
        pool.load_adapter("llama", name, folder).result(60)
    with pytest.raises(InputError, match="2 adapters are loaded; the limit is 2"):
        pool.load_adapter("llama", "c", folders[2]).result(60)
    # Another of the same name takes its place.
    pool.load_adapter("llama", "b", folders[2]).result(60)
    pool.unload_adapter("llama", "a").result(60)
    pool.load_adapter("llama", "c", folders[0]).result(60)
    num_bytes = read_bytes(folders[0])
    tight = AdapterLimits(max_bytes=2 * num_bytes - 1)
    with closing(ModelPool([served("llama")], settings(adapters=tight))) as small:
        small.load_adapter("llama", "a", folders[0]).result(60)
        with pytest.raises(InputError, match=rf"would take {2 * num_bytes} bytes; the limit is"):
            small.load_adapter("llama", "b", folders[1]).result(60)


def read_bytes(folder: Path) -> int:
    model = pair_of("llama").model
    return read_adapter("x", folder, Base(model.brand, model.spec)).num_bytes


def test_the_memory_counts_what_adapters_may_take() -> None:
    huge = AdapterLimits(max_bytes=1 << 30)
    with pytest.raises(ModelTooLarge):
        ModelPool([served("llama")], settings(adapters=huge, memory_bytes=(1 << 30) + 1000))


def test_what_is_wrong_is_told_by_name(pool: ModelPool, folders: list[Path], tmp_path: Path) -> None:
    ear = Waiting()
    with pytest.raises(NotFound, match="no model is called 'nobody'"):
        pool.load_adapter("nobody", "a", folders[0])
    with pytest.raises(InputError, match="'t5' is a seq2seq; adapters are served for decoders"):
        pool.load_adapter("t5", "a", folders[0])
    with pytest.raises(InputError, match="an encoder-decoder takes none"):
        pool.submit("t5", ask("r", [1], adapter="a"), ear)
    with pytest.raises(NotFound, match="'llama' has no adapter 'a'"):
        pool.submit("llama", ask("r", [1], adapter="a"), ear)
    with pytest.raises(NotFound, match="'llama' has no adapter 'a'"):
        pool.unload_adapter("llama", "a")
    with pytest.raises(UnsupportedConfig, match=r"no projection in a layer of GPT2LMHeadModel"):
        pool.load_adapter("gpt2", "a", folders[0]).result(60)
    with pytest.raises(CheckpointNotFound):
        pool.load_adapter("llama", "a", tmp_path).result(60)
    # One model's adapter is not another's.
    pool.load_adapter("llama", "a", folders[0]).result(60)
    with pytest.raises(NotFound, match="'gpt2' has no adapter 'a'"):
        pool.submit("gpt2", ask("r", [1], adapter="a"), ear)
    with closing(ModelPool([served("llama")], settings())) as without:
        with pytest.raises(InputError, match="--enable-lora"):
            without.load_adapter("llama", "a", folders[0])
        with pytest.raises(InputError, match="--enable-lora"):
            without.submit("llama", ask("r", [1], adapter="a"), ear)
