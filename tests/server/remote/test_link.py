"""The server's end of a connection whose other end is played by the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cynosure.core.errors import EngineDown, EngineFault, InputError, WireFault
from cynosure.engine import (
    Cancelled,
    Event,
    Failed,
    Finished,
    FinishReason,
    Request,
    SamplingParams,
    TokenEvent,
    Usage,
)
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.messages import (
    CALLS,
    REPLIES,
    Call,
    CallFailed,
    Cancel,
    Done,
    Hello,
    LoadModel,
    Pulse,
    Reply,
    SetupFailed,
    Submit,
    Told,
)
from cynosure.observe.load import EngineLoad
from cynosure.server.remote.link import IDLE, EngineLink

CARD = ModelCard("tiny", ModelRole.DECODER, "X", "folder", "float32", 10, 20)
GONE = EngineDown("the process ended. Send the request again.", 2.0)


def _request(request_id: str = "r") -> Request:
    return Request(request_id, (1,), SamplingParams(max_tokens=1))


@dataclass
class Ends:
    """A link, and who plays the engine."""

    link: EngineLink
    engine: Channel[Reply, Call]
    calls: Iterator[Call]
    reader: threading.Thread

    def flush(self) -> None:
        """Wait until the link has read all that was posted."""
        future = self.link.call(lambda number: LoadModel(number, "flush"))
        call = next(call for call in self.calls if isinstance(call, LoadModel) and call.model == "flush")
        self.engine.post(Done(call.call_id))
        future.result(5)


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    link = EngineLink(Channel(ours, CALLS, REPLIES))
    engine: Channel[Reply, Call] = Channel(theirs, REPLIES, CALLS)
    reader = threading.Thread(target=link.read)
    reader.start()
    yield Ends(link, engine, engine.messages(), reader)
    engine.close()
    link.end(GONE)
    reader.join(5)
    assert not reader.is_alive()


def test_events_go_to_their_request_until_it_ends(ends: Ends) -> None:
    heard: dict[str, list[Event]] = {"a": [], "b": []}
    for request_id, events in heard.items():
        ends.link.submit("tiny", _request(request_id), events.append)
        assert next(ends.calls) == Submit("tiny", _request(request_id))
    told = [
        TokenEvent("a", 3, -0.5),
        Finished("a", FinishReason.LENGTH, Usage(1, 0, 1)),
        TokenEvent("b", 4, -0.5),
        Cancelled("b", Usage(1, 0, 1)),
        TokenEvent("a", 9, 0.0),  # after its end
        TokenEvent("nobody", 9, 0.0),
    ]
    for events in told[:1], told[1:4], told[4:]:
        ends.engine.post(Told("tiny", tuple(events)))
    ends.flush()
    assert heard == {"a": told[:2], "b": told[2:4]}


def test_whoever_breaks_while_he_listens_stops_nobody(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("Event loop is closed")

    heard: list[Event] = []
    ends.link.submit("tiny", _request("a"), broken)
    ends.link.submit("tiny", _request("b"), heard.append)
    ends.engine.post(Told("tiny", (TokenEvent("a", 1, 0.0), TokenEvent("b", 1, 0.0))))
    ends.flush()
    assert heard == [TokenEvent("b", 1, 0.0)]
    assert "nobody takes" in caplog.text


def test_only_what_has_not_ended_is_cancelled(ends: Ends) -> None:
    ends.link.submit("tiny", _request("a"), lambda event: None)
    ends.link.submit("tiny", _request("b"), lambda event: None)
    ends.engine.post(Told("tiny", (Finished("a", FinishReason.LENGTH, Usage(1, 0, 1)),)))
    ends.flush()
    ends.link.cancel("tiny", "a")
    ends.link.cancel("tiny", "b")
    assert next(ends.calls) == Cancel("tiny", "b")


def test_answers_find_their_calls_in_any_order(ends: Ends) -> None:
    futures = [ends.link.call(lambda number: LoadModel(number, "tiny")) for _ in range(3)]
    numbers = [call.call_id for call in (next(ends.calls) for _ in futures) if isinstance(call, LoadModel)]
    futures[1].cancel()
    ends.engine.post(CallFailed(numbers[2], InputError("no. Change it.")))
    ends.engine.post(Done(numbers[1]))
    ends.engine.post(Done(999))
    ends.engine.post(Done(numbers[0]))
    assert futures[0].result(5) is None
    assert isinstance(futures[2].exception(5), InputError)


def test_hello_gives_the_cards_and_a_pulse_the_loads(ends: Ends) -> None:
    ends.engine.post(Hello((CARD,)))
    ends.engine.post(Pulse({"tiny": EngineLoad(num_running=2)}, ("tiny",)))
    ends.flush()
    assert ends.link.cards.result(5) == {"tiny": CARD}
    assert ends.link.load_of("tiny").num_running == 2
    assert ends.link.load_of("other") == IDLE
    assert ends.link.loaded == ("tiny",)


def test_a_setup_that_failed_says_why(ends: Ends) -> None:
    ends.engine.post(SetupFailed(InputError("two models have one name. Change it.")))
    with pytest.raises(InputError, match="one name"):
        ends.link.cards.result(5)


def test_at_the_end_all_that_waits_fails_and_so_does_what_comes(ends: Ends) -> None:
    heard: list[Any] = []
    ends.link.submit("tiny", _request(), heard.append)
    future = ends.link.call(lambda number: LoadModel(number, "tiny"))
    ends.link.end(GONE)
    assert [type(event) for event in heard] == [Failed]
    assert heard[0].error is GONE
    assert future.exception(5) is GONE
    assert ends.link.cards.exception(5) is GONE
    with pytest.raises(EngineDown):
        ends.link.submit("tiny", _request("b"), heard.append)
    assert ends.link.call(lambda number: LoadModel(number, "tiny")).exception(5) is GONE
    ends.link.cancel("tiny", "r")
    assert len(heard) == 1


def test_what_can_not_be_sent_fails_alone(ends: Ends) -> None:
    huge = Request("a", (1,), SamplingParams(max_tokens=1), priority=2**70)
    with pytest.raises(WireFault):
        ends.link.submit("tiny", huge, lambda event: None)
    assert isinstance(ends.link.call(lambda number: LoadModel(2**70, "x")).exception(5), EngineFault)
    ends.flush()


def test_an_engine_that_says_what_is_no_message_is_not_listened_to(ends: Ends) -> None:
    ends.engine._queue.put(b"\x00\x00\x00\x01\x03")
    ends.reader.join(5)
    assert not ends.reader.is_alive()
