"""Models come when they are asked for and go when they are idle; nobody's failure is another's."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from cynosure.core.errors import CheckpointCorrupt, EngineBusy, EngineFault, InputError, ModelTooLarge
from cynosure.engine import Failed, Finished
from cynosure.engine.encoding import Rows
from cynosure.engine.pool import ModelCard, PoolSettings, ServedModel
from cynosure.engine.pool.entry import Caller
from cynosure.engine.pool.pool import ModelPool
from cynosure.engine.pool.residency import Residency
from cynosure.engine.pool.resident import GeneratorResident, Resident
from cynosure.models.decoder import Decoder
from tests.engine.pool.pool_cases import Waiting, ask, folder_of, served, settings

CACHE = 1 << 18


class Loads:
    """Counts loads, holds them up, and breaks them, on their way to the real loader."""

    def __init__(self, pool: ModelPool) -> None:
        self._residency: Residency = pool._residency
        self._right = self._residency._loader
        self.names: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.broken: Exception | None = None
        self._residency._loader = self

    def __call__(self, model: ServedModel, card: ModelCard, cache_bytes: int) -> Resident:
        self.names.append(model.name)
        assert self.open.wait(30)
        if self.broken is not None:
            raise self.broken
        return self._right(model, card, cache_bytes)


def resident_of(pool: ModelPool, name: str) -> Resident | None:
    return pool._residency.entry(name).resident


def loaded(pool: ModelPool) -> list[str]:
    return [name for name, card in pool.cards().items() if card.is_loaded]


@contextmanager
def pool_of(*models: ServedModel, **options: object) -> Iterator[ModelPool]:
    pool = ModelPool(models, settings(kv_cache_bytes=CACHE, **options))
    try:
        yield pool
    finally:
        pool.close()


def room_for(num_models: int, **options: object) -> dict[str, object]:
    """Settings under which so many tiny llamas fit, and not one more."""
    with pool_of(served("llama")) as pool:
        one = pool._residency.entry("llama").needed_bytes
    return {"memory_bytes": num_models * one + one // 2, **options}


def answer(pool: ModelPool, name: str) -> None:
    ear = Waiting()
    pool.submit(name, ask("r", [1, 2, 3], 2), ear)
    ear.wait("r")
    assert isinstance(ear.end("r"), Finished)


def ask_texts(pool: ModelPool, name: str) -> Future[Rows]:
    return pool.embed(name, ["star"]) if name == "embedder" else pool.score(name, [("star", "eyes")])


def until(holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came")


def test_the_least_recently_used_idle_model_goes_and_its_memory_with_it(
    request: pytest.FixtureRequest,
) -> None:
    request.addfinalizer(gc.enable)
    models = [served("llama", name) for name in "abc"]
    # No cycle may hold it: a collection takes long, and stops everybody meanwhile.
    gc.disable()
    with pool_of(*models, **room_for(2)) as pool:
        answer(pool, "a")
        answer(pool, "b")
        resident = resident_of(pool, "a")
        assert isinstance(resident, GeneratorResident)
        core = resident.engine._core
        gone = [weakref.ref(core), weakref.ref(core.cache), weakref.ref(core._runner.graph)]  # type: ignore[attr-defined]
        gone += [weakref.ref(core._runner.graph.embed.weight)]  # type: ignore[attr-defined]
        del resident, core
        answer(pool, "a")  # b is now the one that was used least recently
        answer(pool, "c")
        until(lambda: loaded(pool) == ["a", "c"])
        assert all(reference() is not None for reference in gone)
        answer(pool, "b")
        assert loaded(pool) == ["b", "c"]
        assert all(reference() is None for reference in gone), "an evicted model is still held"


@pytest.mark.parametrize("kind", ["t5", "embedder", "classifier"])
def test_every_kind_goes_without_a_trace(kind: str, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(gc.enable)
    gc.disable()
    with pool_of(served(kind)) as pool:
        if kind == "t5":
            answer(pool, kind)
        else:
            ask_texts(pool, kind).result(30)
        resident = resident_of(pool, kind)
        held = resident.engine._core if isinstance(resident, GeneratorResident) else resident.model.graph  # type: ignore[union-attr]
        gone = weakref.ref(held)
        del resident, held
        until(lambda: not pool._residency.entry(kind).num_open)
        pool.unload(kind)
        assert gone() is None


def test_one_with_work_or_a_pin_stays_and_the_others_wait() -> None:
    models = [served("llama", "pinned", is_pinned=True), served("llama", "busy"), served("llama", "late")]
    with pool_of(*models, **room_for(2, load_wait_s=0.2)) as pool:
        answer(pool, "pinned")
        ear = Waiting()
        # Hold it, as a request under way does.
        pool._residency.arrive(pool._residency.entry("busy"), Caller(lambda _: None, lambda _: None))
        until(lambda: "busy" in loaded(pool))
        pool.submit("late", ask("r", [1, 2]), ear)
        ear.wait("r")
        end = ear.end("r")
        assert isinstance(end, Failed)
        assert isinstance(end.error, EngineBusy)
        assert "busy, pinned" in str(end.error)
        assert loaded(pool) == ["pinned", "busy"]
        pool._residency.depart(pool._residency.entry("busy"))
        answer(pool, "late")
        assert loaded(pool) == ["pinned", "late"]


def test_a_model_that_waits_for_room_gets_it_when_another_becomes_idle() -> None:
    with pool_of(served("llama", "a"), served("llama", "b"), **room_for(1, load_wait_s=30.0)) as pool:
        entry = pool._residency.entry("a")
        pool._residency.arrive(entry, Caller(lambda _: None, lambda _: None))
        until(lambda: loaded(pool) == ["a"])
        ear = Waiting()
        pool.submit("b", ask("r", [1, 2]), ear)
        assert pool.snapshot("b").num_waiting == 1
        pool._residency.depart(entry)
        ear.wait("r")
        assert isinstance(ear.end("r"), Finished)


def test_two_requests_share_one_load() -> None:
    with pool_of(served("llama"), served("embedder")) as pool:
        loads, ear = Loads(pool), Waiting()
        loads.open.clear()
        for name in ("first", "second"):
            pool.submit("llama", ask(name, [1, 2]), ear)
        futures = [pool.embed("embedder", ["star"]), pool.embed("embedder", ["eyes"])]
        until(lambda: len(loads.names) == 2)
        loads.open.set()
        ear.wait("first", "second")
        for future in futures:
            future.result(30)
        assert sorted(loads.names) == ["embedder", "llama"]


def test_how_long_a_model_has_been_loaded_is_known() -> None:
    with pool_of(served("llama"), served("embedder")) as pool:
        assert pool.load_age_s == 0
        loads, now = Loads(pool), [100.0]
        pool._residency._clock = lambda: now[0]
        loads.open.clear()
        first = pool.load("llama")
        until(lambda: len(loads.names) == 1)
        now[0] = 107.0
        second = pool.load("embedder")
        until(lambda: len(loads.names) == 2)
        now[0] = 109.0
        assert pool.load_age_s == 9.0
        loads.open.set()
        first.result(30)
        second.result(30)
        assert pool.load_age_s == 0


def test_a_load_that_broke_is_over() -> None:
    with pool_of(served("llama")) as pool:
        loads = Loads(pool)
        loads.broken = ZeroDivisionError("no")
        with pytest.raises(Exception, match="llama"):
            pool.load("llama").result(30)
        assert pool.load_age_s == 0


def test_a_failed_load_fails_who_waited_and_may_be_tried_again() -> None:
    with pool_of(served("llama"), served("gpt2")) as pool:
        loads, ear = Loads(pool), Waiting()
        loads.broken = CheckpointCorrupt("tensor x holds NaN. Fetch it again.")
        pool.submit("llama", ask("first", [1, 2]), ear)
        ear.wait("first")
        end = ear.end("first")
        assert isinstance(end, Failed)
        assert end.error is loads.broken
        loads.broken = RuntimeError("a bug of ours")
        with pytest.raises(EngineFault, match="'llama' could not be loaded: a bug of ours"):
            pool.load("llama").result(30)
        loads.broken = None
        answer(pool, "llama")
        answer(pool, "gpt2")
        assert pool._residency.entry("llama").num_open == 0


def test_a_checkpoint_that_is_damaged_later_fails_its_requests_only(tmp_path) -> None:  # noqa: ANN001
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in folder_of("llama").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with pool_of(served("gpt2"), ServedModel("copy", str(folder))) as pool:
        weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[:-8])
        with pytest.raises(CheckpointCorrupt):
            pool.load("copy").result(30)
        answer(pool, "gpt2")
        (folder / "model.safetensors").write_bytes(weights)
        answer(pool, "copy")


def test_unloading_frees_and_refuses_who_has_work() -> None:
    with pool_of(served("llama", is_pinned=True)) as pool:
        pool.unload("llama")
        answer(pool, "llama")
        entry = pool._residency.entry("llama")
        pool._residency.arrive(entry, Caller(lambda _: None, lambda _: None))
        with pytest.raises(EngineBusy, match="1 requests"):
            pool.unload("llama")
        pool._residency.depart(entry)
        pool.unload("llama")
        assert loaded(pool) == []
        assert entry.held_bytes == 0
        answer(pool, "llama")


def test_closing_while_a_model_is_loaded_or_waits_for_room() -> None:
    pool = ModelPool(
        [served("llama", "a"), served("llama", "b"), served("gpt2")],
        settings(kv_cache_bytes=CACHE, **room_for(1)),
    )
    loads, ear = Loads(pool), Waiting()
    loads.open.clear()
    for name in ("a", "b"):
        pool.submit(name, ask(name, [1, 2]), ear)
    until(lambda: len(loads.names) == 1)
    closing = threading.Thread(target=pool.close)
    closing.start()
    ear.wait("a", "b")
    loads.open.set()
    closing.join(30)
    assert not closing.is_alive()
    assert all(isinstance(ear.end(name), Failed) for name in ("a", "b"))
    assert loaded(pool) == []


def test_what_can_never_be_is_refused_at_once() -> None:
    with pytest.raises(ModelTooLarge, match="'llama' can never be loaded"):
        ModelPool([served("llama")], PoolSettings(memory_bytes=1000))
    with pytest.raises(InputError, match="two models are called 'a'"):
        ModelPool([served("llama", "a"), served("gpt2", "a")], settings())


def test_the_cache_gets_what_is_left_and_not_a_fixed_size() -> None:
    models = [served("llama", name) for name in "ab"]
    pool = ModelPool(models, settings(memory_bytes=2 << 20))
    first, second = (pool._residency.entry(name) for name in "ab")
    assert first.cache_bytes == second.cache_bytes < settings().engine.kv_cache_bytes
    assert first.needed_bytes + second.needed_bytes <= 2 << 20
    answer(pool, "a")
    answer(pool, "b")
    assert loaded(pool) == ["a", "b"]
    resident = resident_of(pool, "a")
    assert isinstance(resident, GeneratorResident)
    assert resident.num_bytes <= first.needed_bytes
    graph = resident.engine._core._runner.graph  # type: ignore[attr-defined]
    assert isinstance(graph, Decoder)
    assert first.described.weight_bytes == sum(one.nbytes for one in graph.parameters())
    pool.close()
