"""Drive the engine from many threads, and take its thread to its edges."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cynosure.core.errors import EngineFault, InputError
from cynosure.engine import Cancelled, Event, Failed, Finished
from cynosure.engine.engine import Engine
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, TERMINAL, Ear, ask, new_core
from tests.engine.test_core import plain, prompts_of
from tests.models.decoder_oracle import pair_of


class Waiting(Ear):
    """An ear that one can wait on."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._ended:
            super().__call__(event)
            if isinstance(event, TERMINAL):
                self._ended.notify_all()

    def wait(self, *request_ids: str) -> None:
        def all_ended() -> bool:
            return all(
                any(isinstance(event, TERMINAL) for event in self.events[request_id])
                for request_id in request_ids
            )

        with self._ended:
            assert self._ended.wait_for(all_ended, timeout=60), f"{request_ids} did not all end"


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


@pytest.fixture
def engine(llama: LanguageModel) -> Iterator[Engine]:
    engine = Engine(new_core(llama))
    yield engine
    engine.close()


def test_threads_submit_and_each_hears_its_own_answer(engine: Engine, llama: LanguageModel) -> None:
    prompts = prompts_of(20, [3, 9, 14, 22, 30, 5])
    ears = [Waiting() for _ in prompts]

    def send(index: int) -> None:
        engine.submit(ask(f"r{index}", prompts[index]), ears[index])
        ears[index].wait(f"r{index}")

    threads = [threading.Thread(target=send, args=(index,)) for index in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index, prompt in enumerate(prompts):
        assert list(ears[index].events) == [f"r{index}"]
        assert isinstance(ears[index].end(f"r{index}"), Finished)
        assert ears[index].tokens(f"r{index}") == plain(llama, prompt)


def test_what_is_wrong_with_a_request_is_raised_where_it_is_sent(engine: Engine) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        engine.submit(ask("r", [10**6]), Ear())


def test_a_cancelled_request_ends_at_once_and_frees_its_pages(engine: Engine) -> None:
    ear = Waiting()
    engine.submit(ask("long", [1, 2, 3], 120), ear)
    engine.cancel("long")
    ear.wait("long")
    assert isinstance(ear.end("long"), Cancelled)
    assert engine.snapshot.num_running == 0


def test_pages_return_to_the_baseline_after_thousands_of_aborts(engine: Engine) -> None:
    ear = Waiting()
    num_aborts = 10_000
    for index in range(num_aborts):
        engine.submit(ask(f"r{index}", [1 + index % 80, 2, 3], 100), ear)
        engine.cancel(f"r{index}")
    ear.wait(f"r{num_aborts - 1}")
    snapshot = engine.snapshot
    assert snapshot.num_free_blocks + snapshot.num_cached_blocks == snapshot.num_blocks
    assert all(isinstance(ear.end(request_id), Cancelled) for request_id in list(ear.events))


def test_closing_ends_what_is_under_way_and_takes_nothing_more(llama: LanguageModel) -> None:
    engine, ear = Engine(new_core(llama)), Waiting()
    engine.submit(ask("r", [1, 2], 120), ear)
    engine.close()
    ear.wait("r")
    assert isinstance(ear.end("r"), Failed | Finished)
    with pytest.raises(EngineFault, match="shutting down"):
        engine.submit(ask("late", [1]), ear)


def test_a_step_that_breaks_fails_those_under_way_and_the_engine_goes_on(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = new_core(llama, SMALL)
    right, broken = core._schedule, threading.Event()

    def wrong(now: float):  # noqa: ANN202
        if not broken.is_set():
            broken.set()
            raise RuntimeError("a bug of ours")
        return right(now)

    monkeypatch.setattr(core, "_schedule", wrong)
    engine, ear = Engine(core), Waiting()
    engine.submit(ask("first", [1, 2, 3]), ear)
    ear.wait("first")
    end = ear.end("first")
    assert isinstance(end, Failed)
    assert "a bug of ours" in str(end.error)
    engine.submit(ask("second", [1, 2, 3]), ear)
    ear.wait("second")
    assert ear.tokens("second") == plain(llama, [1, 2, 3])
    engine.close()
