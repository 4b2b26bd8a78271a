"""Texts of many callers share passes; each gets what it gets alone, and what is wrong with it alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from cynosure.core.errors import EmptyInput, EngineBusy, EngineFault
from cynosure.engine.encoding import EncodingEngine, EncodingLimits
from cynosure.engine.turnstile import Turnstile
from cynosure.models.cross_encoder import load_cross_encoder
from cynosure.models.embedder import Embedder, load_embedder
from cynosure.models.text.tokenizer import Encoding
from tests.engine.pool.pool_cases import folder_of

LIMITS = EncodingLimits(max_tokens=64, max_shared_tokens=16, max_waiting_texts=100)


class Words:
    """A model whose row is a text's number of words; it notes its passes."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def read(self, texts: Sequence[str]) -> list[Encoding]:
        return [self._read_one(text) for text in texts]

    def _read_one(self, text: str) -> Encoding:
        if not text:
            raise EmptyInput("nothing")
        size = len(text.split())
        ids = tuple(range(size))
        return Encoding(ids, ((0, 0),) * size, (False,) * size, (0,) * size, (0,) * size)

    def run(self, encodings: Sequence[Encoding]) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(10)
        sizes = [len(encoding) for encoding in encodings]
        self.passes.append(sizes)
        if 13 in sizes:
            raise RuntimeError("thirteen")
        return np.array([[np.nan if size == 17 else size] for size in sizes], dtype=np.float32)


class Turns(Turnstile):
    """A turnstile that one can declare shared."""

    shared = False

    @property
    def is_shared(self) -> bool:
        return self.shared


@contextmanager
def engine_of(model: Words, turns: Turnstile | None = None) -> Iterator[EncodingEngine[str]]:
    engine: EncodingEngine[str] = EncodingEngine(model, turns or Turns(), LIMITS)
    try:
        yield engine
    finally:
        model.gate.set()
        engine.close()


def words(*sizes: int) -> list[str]:
    return [" ".join(["w"] * size) for size in sizes]


def test_rows_come_in_the_order_of_the_texts_and_passes_are_bounded() -> None:
    model = Words()
    with engine_of(model) as engine:
        found = engine.submit(words(3, 30, 1, 40, 70, 12)).result(10)
    assert found.values[:, 0].tolist() == [3, 30, 1, 40, 70, 12]
    assert found.token_counts == (3, 30, 1, 40, 70, 12)
    assert model.passes[0] == [70], "one that is longer than a pass gets one to itself"
    assert all(sum(sizes) <= 64 for sizes in model.passes[1:])
    assert sum(map(len, model.passes)) == 6


def test_passes_are_shorter_while_somebody_would_wait() -> None:
    model, turns = Words(), Turns()
    turns.shared = True
    with engine_of(model, turns) as engine:
        engine.submit(words(*[5] * 12)).result(10)
    assert max(map(sum, model.passes)) <= LIMITS.max_shared_tokens


def test_a_small_request_does_not_wait_for_the_whole_of_a_large_one() -> None:
    model = Words()
    model.gate.clear()
    with engine_of(model) as engine:
        large = engine.submit(words(*[8] * 90), tenant="a")
        assert model.entered.wait(10)
        small = engine.submit(words(2), tenant="b")
        while engine._inbox.empty():
            threading.Event().wait(0.001)
        model.gate.set()
        small.result(10)
        large.result(10)
    place = next(index for index, sizes in enumerate(model.passes) if 2 in sizes)
    assert place <= 2
    assert len(model.passes) > 6


def test_what_is_wrong_with_a_request_is_its_own() -> None:
    with engine_of(Words()) as engine:
        futures = [engine.submit(texts) for texts in (words(3), ["w", ""], words(1, 13), words(17), words(4))]
        kinds = [type(future.exception(10)) for future in futures]
        assert kinds == [type(None), EmptyInput, EngineFault, EngineFault, type(None)]
        assert futures[4].result().values[0, 0] == 4
        assert engine.num_waiting == 0


def test_too_many_texts_are_refused_and_cancelled_ones_are_dropped() -> None:
    model = Words()
    model.gate.clear()
    with engine_of(model) as engine:
        first = engine.submit(words(*[8] * 60))
        second = engine.submit(words(*[8] * 40))
        with pytest.raises(EngineBusy, match="the limit is 100"):
            engine.submit(words(1))
        assert second.cancel()
        third = engine.submit(words(1))
        model.gate.set()
        first.result(10)
        third.result(10)
    assert sum(map(len, model.passes)) <= 61 + 8


def test_closing_fails_what_waits_and_takes_nothing_more() -> None:
    model = Words()
    model.gate.clear()
    with engine_of(model) as engine:
        futures = [engine.submit(words(*[8] * 20)) for _ in range(3)]
        aside = engine.aside(lambda: 1)
    assert all(future.done() for future in [*futures, aside])
    with pytest.raises(EngineFault):
        engine.submit(words(1))


def test_what_is_computed_aside_has_its_turn_and_its_errors() -> None:
    with engine_of(Words()) as engine:
        assert engine.aside(lambda: 5).result(10) == 5
        with pytest.raises(EngineFault):
            engine.aside(lambda: 1 / 0).result(10)
        assert engine.submit(words(2)).result(10).values[0, 0] == 2


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(folder_of("embedder"), dtype="float32")


def test_vectors_are_those_alone_in_any_company(embedder: Embedder) -> None:
    texts = [
        " ".join(["star", "the", "eyes", "café"][: 1 + index % 4] * (1 + index % 5)) for index in range(40)
    ]
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    engine: EncodingEngine[str] = EncodingEngine(embedder, Turnstile(), EncodingLimits(max_tokens=100))
    futures = [engine.submit(texts[start : start + 7], tenant=str(start)) for start in range(0, 40, 7)]
    together = np.concatenate([future.result(30).values for future in futures])
    engine.close()
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_logits_are_those_alone_in_any_company() -> None:
    model = load_cross_encoder(folder_of("classifier"))
    readings: list[tuple[str, ...]] = [
        ("the star " * (1 + index % 4), "eyes " * index) for index in range(1, 12)
    ]
    readings.append(("alone",))
    engine: EncodingEngine[tuple[str, ...]] = EncodingEngine(
        model, Turnstile(), EncodingLimits(max_tokens=60)
    )
    together = engine.submit(readings).result(30).values
    alone = np.concatenate([engine.submit([reading]).result(30).values for reading in readings])
    engine.close()
    np.testing.assert_allclose(together, alone, atol=1e-5)
