"""The engine's process without a process or a model: its loop over a socket pair, with a made-up pool."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cynosure.core.errors import CheckpointNotFound, EngineFault, InputError
from cynosure.engine import Event, Failed, Finished, FinishReason, Request, SamplingParams, TokenEvent, Usage
from cynosure.engine.constraints import Constraint, regex
from cynosure.engine.pool.card import ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.logs import SendLines, log_again
from cynosure.engine.wire.messages import (
    CALLS,
    REPLIES,
    Attend,
    Call,
    CallFailed,
    Cancel,
    Compile,
    Done,
    Embed,
    Hello,
    LoadModel,
    LogLine,
    Pulse,
    Reply,
    Rows,
    Score,
    Setup,
    SetupFailed,
    Shares,
    Stop,
    Submit,
    Told,
)
from cynosure.engine.worker import Notify, serve
from cynosure.observe.load import EngineLoad

CARDS = {
    "tiny": ModelCard("tiny", ModelRole.DECODER, "X", "folder", "float32", 10, 20, is_loaded=True),
    "texts": ModelCard("texts", ModelRole.EMBEDDER, "Y", "folder", "float32", 10, None, dim=2, max_tokens=4),
}
SETUP = Setup((ServedModel("tiny", "folder"),), PoolSettings())


def _done(result: object) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


@dataclass
class FakePool:
    """Answers at once, and keeps what it was asked."""

    step_age_s = 0.0
    load_age_s = 0.0

    asked: list[tuple[object, ...]] = field(default_factory=list)
    is_closed: bool = False

    def cards(self) -> dict[str, ModelCard]:
        return CARDS

    def snapshot(self, name: str) -> EngineLoad:
        return EngineLoad(num_running=7)

    def load(self, name: str) -> Future[Any]:
        return _done(CheckpointNotFound("gone. Name another."))

    def submit(self, name: str, request: Request, notify: Notify) -> None:
        if request.request_id == "refused":
            raise InputError("no such thing. Leave it out.")
        if request.request_id == "broken":
            raise ZeroDivisionError("a secret")
        num_tokens = request.params.max_tokens
        events: list[Event] = [
            *[TokenEvent(request.request_id, 3, -0.5)] * num_tokens,
            Finished(request.request_id, FinishReason.LENGTH, Usage(1, 0, 1)),
        ]
        for event in events:
            notify(event)

    def cancel(self, name: str, request_id: str) -> None:
        self.asked.append((name, request_id))

    def grammar(self, name: str, constraint: Constraint, tenant: str) -> Future[Any]:
        self.asked.append((constraint, tenant))
        return _done(object())

    def embed(self, name: str, texts: Sequence[str], tenant: str) -> Future[Any]:
        return _done((np.ones((len(texts), 2), np.float32), [1] * len(texts)))

    def attended(self, name: str, text: str, question: str | None) -> Future[Any]:
        return _done(SimpleNamespace(offsets=[(0, 1)], weights=[0.5], sink_share=0.5))

    def score(self, name: str, readings: Sequence[tuple[str, ...]], tenant: str) -> Future[Any]:
        return _done(ZeroDivisionError("a secret"))

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Served:
    """The server's end of it."""

    channel: Channel[Call, Reply]
    replies: Iterator[Reply]
    pool: FakePool
    thread: threading.Thread

    def next(self) -> Reply:
        """The next reply that is no pulse."""
        return next(reply for reply in self.replies if not isinstance(reply, Pulse))


@pytest.fixture
def served() -> Iterator[Served]:
    ours, theirs = socket.socketpair()
    pool = FakePool()
    inner: Channel[Reply, Call] = Channel(theirs, REPLIES, CALLS)

    def run() -> None:
        calls = inner.messages()
        assert next(calls) == SETUP
        serve(inner, calls, SETUP, lambda models, settings: pool)
        inner.close()

    thread = threading.Thread(target=run)
    thread.start()
    channel: Channel[Call, Reply] = Channel(ours, CALLS, REPLIES)
    channel.send(SETUP)
    replies = channel.messages()
    one = Served(channel, replies, pool, thread)
    hello = one.next()
    assert isinstance(hello, Hello)
    assert {card.name: card for card in hello.cards} == CARDS
    yield one
    channel.close()
    thread.join(5)
    assert not thread.is_alive(), "the end of the connection ends it"
    assert pool.is_closed


def test_events_come_in_order_and_end_with_a_terminal_one(served: Served) -> None:
    served.channel.send(Submit("tiny", Request("r", (1,), SamplingParams(max_tokens=1))))
    told: list[Event] = []
    while len(told) < 2:
        message = served.next()
        assert isinstance(message, Told)
        assert message.model == "tiny"
        told += message.events
    assert told == [TokenEvent("r", 3, -0.5), Finished("r", FinishReason.LENGTH, Usage(1, 0, 1))]


def test_tokens_that_come_close_together_are_one_message(served: Served) -> None:
    served.channel.send(Submit("tiny", Request("r", (1,), SamplingParams(max_tokens=200))))
    messages: list[Told] = []
    while not messages or not isinstance(messages[-1].events[-1], Finished):
        message = served.next()
        assert isinstance(message, Told)
        messages.append(message)
    events = [event for message in messages for event in message.events]
    assert events[:-1] == [TokenEvent("r", 3, -0.5)] * 200
    assert len(messages) < 20


@pytest.mark.parametrize(("request_id", "words"), [("refused", "no such thing"), ("broken", "ZeroDivision")])
def test_a_request_that_is_not_taken_fails_by_itself(served: Served, request_id: str, words: str) -> None:
    served.channel.send(Submit("tiny", Request(request_id, (1,), SamplingParams(max_tokens=1))))
    told = served.next()
    assert isinstance(told, Told)
    [failed] = told.events
    assert isinstance(failed, Failed)
    assert words in str(failed.error)
    assert "secret" not in str(failed.error)


def test_each_call_gets_its_answer(served: Served) -> None:
    served.channel.send(Embed(4, "texts", ("a", "b"), "t"))
    done = served.next()
    assert isinstance(done, Done)
    assert isinstance(done.result, Rows)
    assert (done.call_id, done.result.values.tolist(), done.result.token_counts) == (
        4,
        [[1, 1], [1, 1]],
        (1, 1),
    )
    served.channel.send(Attend(5, "texts", "a"))
    assert served.next() == Done(5, Shares(((0, 1),), (0.5,), 0.5))
    served.channel.send(Compile(6, "tiny", regex("a+"), "t"))
    assert served.next() == Done(6)
    served.channel.send(Cancel("tiny", "r"))
    served.channel.send(LoadModel(7, "tiny"))
    failed = served.next()
    assert isinstance(failed, CallFailed)
    assert isinstance(failed.error, CheckpointNotFound)
    assert served.pool.asked == [(regex("a+"), "t"), ("tiny", "r")]


def test_what_breaks_is_logged_here_and_told_without_its_words(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.channel.send(Score(8, "texts", (("a", "b"),), "t"))
    failed = served.next()
    assert isinstance(failed, CallFailed)
    assert type(failed.error) is EngineFault
    assert "secret" not in str(failed.error)
    assert "a call broke" in caplog.text


def test_it_says_that_it_lives_and_how_busy_it_is(served: Served) -> None:
    begun = time.monotonic()
    pulses = [next(reply for reply in served.replies if isinstance(reply, Pulse)) for _ in range(2)]
    assert time.monotonic() - begun < 2
    assert pulses[-1] == Pulse({"tiny": EngineLoad(num_running=7)}, ("tiny",))


def test_stop_ends_it(served: Served) -> None:
    served.channel.send(Stop())
    assert [reply for reply in served.replies if not isinstance(reply, Pulse)] == []
    assert served.pool.is_closed


def test_a_pool_that_does_not_open_says_why() -> None:
    ours, theirs = socket.socketpair()
    inner: Channel[Reply, Call] = Channel(theirs, REPLIES, CALLS)
    outer: Channel[Call, Reply] = Channel(ours, CALLS, REPLIES)

    def broken(models: object, settings: object) -> FakePool:
        raise CheckpointNotFound("there is no folder 'x'. Name another.")

    serve(inner, iter([]), SETUP, broken)
    inner.close()
    [failed] = [reply for reply in outer.messages() if not isinstance(reply, Pulse)]
    assert isinstance(failed, SetupFailed)
    assert isinstance(failed.error, CheckpointNotFound)
    outer.close()


@pytest.mark.parametrize("with_content", [False, True])
def test_a_log_line_is_logged_again_with_the_place_of_its_failure(
    caplog: pytest.LogCaptureFixture, with_content: bool
) -> None:
    sent: list[LogLine] = []
    logger = logging.getLogger("cynosure.engine.test")
    handler = SendLines(sent.append, with_content)
    logger.addHandler(handler)
    try:
        raise ValueError("a secret")
    except ValueError:
        logger.exception("it %s", "broke", extra={"fields": {"step": 3}})
    logger.removeHandler(handler)
    caplog.clear()
    log_again(sent[0])
    [record] = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == (logger.name, logging.ERROR, "it broke")
    fields = vars(record)["fields"]
    assert (fields["process"], fields["step"], fields["failure"]) == ("engine", "3", "ValueError")
    assert "test_worker.py" in fields["frames"][-1]
    assert ("secret" in str(fields)) == with_content
