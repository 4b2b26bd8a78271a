from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.core.errors import EngineDown, EngineFault, InputTooLong, WireFault
from cynosure.engine import (
    Cancelled,
    Failed,
    Finished,
    FinishReason,
    PromptLogprobs,
    RefusalReason,
    Refused,
    Request,
    SamplingParams,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from cynosure.engine.constraints import json_schema, verbatim
from cynosure.engine.pool.card import ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.watch import DENIED, AttendedTo, WatchSpec
from cynosure.engine.wire.codec import MAX_FRAME_BYTES, Channel, FrameReader, framed
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
from cynosure.engine.wire.types import Codec, codec_of
from cynosure.observe.load import EngineLoad

SCHEMA = json_schema({"type": "object"})
PARAMS = SamplingParams(
    max_tokens=9, temperature=0.5, top_k=3, logit_bias=((1, -2.5),), seed=2**63 - 1, stop_token_ids=(5,),
    constraint=SCHEMA, logprobs=2,
)  # fmt: skip
REQUEST = Request("r-1", (1, 2, 3), PARAMS, "tenant", -1, 12.5, 0.25, (0, 0, 1), True)
WATCH = WatchSpec(((0, 1), (2, 0)), ((1, 0, 2),), 3, every=4, folds=((0.5, -1.0),))
CALLS_MADE: list[Call] = [
    Setup((ServedModel("m", "folder", is_pinned=True),), PoolSettings(memory_bytes=1 << 33), 2),
    Submit("m", REQUEST),
    Submit("m", Request("r-2", (0,), SamplingParams(max_tokens=1))),
    Submit("m", Request("r-3", (7, 8), SamplingParams(max_tokens=1), watch=WATCH, bias=((0, 1, DENIED),))),
    Cancel("m", "r-1"),
    Compile(1, "m", SCHEMA, "tenant"),
    Compile(1, "m", verbatim(["naïve", "🙂\n"], min_chars=2), "tenant"),
    LoadModel(2, "m"),
    Embed(3, "m", ("a", "naïve \ud800", ""), ""),
    Attend(4, "m", "text"),
    Score(5, "m", (("a", "b"), ("alone",)), "t"),
    Stop(),
]
TOP = (TokenLogprob(4, -0.5), TokenLogprob(5, float("-inf")))
EVENTS = [
    TokenEvent("r", 7, -0.25, TOP),
    TokenEvent("r", 7, None, attended=AttendedTo((0.5, 0.25, 0.125), 0.125, 1.5, ((1.0, -2.0, 0.0),))),
    PromptLogprobs("r", 1, TOP, (TOP, ())),
    Finished("r", FinishReason.EOS, Usage(3, 2, 1)),
    Refused("r", RefusalReason.DEADLINE, "too late", 1.5),
    Failed("r", InputTooLong("9 tokens; the limit is 8. Shorten it.")),
    Cancelled("r", Usage(3, 0, 0)),
]
REPLIES_MADE: list[Reply] = [
    Hello((ModelCard("m", ModelRole.DECODER, "LlamaForCausalLM", "folder", "float32", 10, 20, (1, 2)),)),
    SetupFailed(EngineFault("broken")),
    *(Told("m", (event,)) for event in EVENTS),
    Told("m", tuple(EVENTS)),
    Told("m", ()),
    Done(1),
    Done(3, Shares(((0, 1), (1, 4)), (0.25, 0.5), 0.25)),
    CallFailed(4, EngineDown("gone", 3.0)),
    Pulse({"m": EngineLoad(1, 2, 0.5, 3, 4)}, ("m",)),
    LogLine("cynosure.x", 20, "message", {"a": "b"}, "ValueError", ("file:1 in f",)),
]


@pytest.mark.parametrize("call", CALLS_MADE, ids=lambda call: type(call).__name__)
def test_every_call_comes_back(call: Call) -> None:
    [value] = FrameReader().feed(framed(CALLS.write(call)))
    assert CALLS.read(value) == call


@pytest.mark.parametrize("reply", REPLIES_MADE, ids=lambda reply: type(reply).__name__)
def test_every_reply_comes_back(reply: Reply) -> None:
    [value] = FrameReader().feed(framed(REPLIES.write(reply)))
    again = REPLIES.read(value)
    # Errors are equal to themselves alone.
    assert _told(again) == _told(reply)


def test_rows_come_back() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    [value] = FrameReader().feed(framed(REPLIES.write(Done(2, Rows(values, (1, 2, 3))))))
    again = REPLIES.read(value)
    assert again.result.token_counts == (1, 2, 3)
    np.testing.assert_array_equal(again.result.values, values)


def _told(reply: Any) -> str:  # noqa: ANN401 - any message
    return repr(reply)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.data())
def test_frames_come_out_whole_however_they_are_cut(cuts: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.text(max_size=30) | st.binary(max_size=30), max_size=5))
    stream = b"".join(map(framed, values))
    reader, got = FrameReader(), []
    position = 0
    while position < len(stream):
        step = cuts[position % len(cuts)]
        got += list(reader.feed(stream[position : position + step]))
        position += step
    assert got == values


def test_a_frame_over_the_limit_is_refused_on_both_sides() -> None:
    with pytest.raises(WireFault, match="the limit is"):
        framed(b"x" * (MAX_FRAME_BYTES + 1))
    with pytest.raises(WireFault, match=f"frame of {MAX_FRAME_BYTES + 1} bytes"):
        list(FrameReader().feed(struct.pack(">I", MAX_FRAME_BYTES + 1)))
    assert list(FrameReader(8).feed(struct.pack(">I", 1) + b"\x01")) == [1]


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object(), {1, 2}])
def test_what_msgpack_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(WireFault, match="can't be sent"):
        framed(value)


def test_an_extension_is_refused() -> None:
    content = msgpack.packb(msgpack.ExtType(5, b"x"))
    with pytest.raises(WireFault, match="extension of type 5"):
        list(FrameReader().feed(struct.pack(">I", len(content)) + content))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(content: bytes) -> None:
    _read_or_refuse(struct.pack(">I", len(content)) + content)


@settings(max_examples=400)
@given(st.sampled_from(CALLS_MADE), st.data())
def test_a_damaged_call_is_a_call_or_refused(call: Call, data: st.DataObject) -> None:
    frame = bytearray(framed(CALLS.write(call)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(4, len(frame) - 1))] = data.draw(st.integers(0, 255))
    _read_or_refuse(bytes(frame))


#: Anything that msgpack can say.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([type(made).__name__ for made in [*CALLS_MADE, *REPLIES_MADE]])


@settings(max_examples=400)
@given(st.tuples(NAMES, VALUES) | VALUES)
def test_any_value_is_a_message_or_refused(value: object) -> None:
    _read_or_refuse(framed(value))


def _read_or_refuse(stream: bytes) -> None:
    """Nothing but `WireFault` may come of it."""
    for codec in (CALLS, REPLIES):
        with suppress(WireFault):
            for value in FrameReader().feed(stream):
                codec.read(value)


@dataclass(frozen=True)
class Note:
    number: int


@dataclass(frozen=True)
class Other:
    text: str


NOTES, OTHERS = codec_of(Note), codec_of(Other)


class Counting(socket.socket):
    """Counts what is written; the first write waits, so that others gather behind it."""

    writes: list[int]
    may_write: threading.Event

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        self.may_write.wait(5)
        self.writes.append(len(data))
        super().sendall(data, flags)


def _pair(ours: Codec = NOTES, theirs: Codec = OTHERS) -> tuple[Channel[Any, Any], Channel[Any, Any]]:
    left, right = socket.socketpair()
    return Channel(left, ours, theirs), Channel(right, theirs, ours)


@pytest.fixture
def ends() -> Iterator[tuple[Channel[Note, Other], Channel[Other, Note]]]:
    left, right = _pair()
    yield left, right
    left.close()
    right.close()


def test_messages_go_both_ways_in_order(ends: tuple[Channel[Note, Other], Channel[Other, Note]]) -> None:
    left, right = ends
    for number in range(200):
        left.send(Note(number)) if number % 2 else left.post(Note(number))
    right.post(Other("x"))
    heard = right.messages()
    assert [next(heard).number for _ in range(200)] == list(range(200))
    assert next(left.messages()) == Other("x")


def test_what_is_ready_goes_out_in_one_write() -> None:
    a, b = socket.socketpair()
    counting = Counting(a.family, a.type, a.proto, a.detach())
    counting.writes, counting.may_write = [], threading.Event()
    left: Channel[Note, Other] = Channel(counting, NOTES, OTHERS)
    time.sleep(0.05)  # the greeting's write waits
    for number in range(40):
        left.post(Note(number))
    counting.may_write.set()
    right: Channel[Other, Note] = Channel(b, OTHERS, NOTES)
    heard = right.messages()
    assert [next(heard).number for _ in range(40)] == list(range(40))
    assert len(counting.writes) == 2
    left.close()
    right.close()


def test_sending_never_blocks_on_who_does_not_read(
    ends: tuple[Channel[Note, Other], Channel[Other, Note]],
) -> None:
    left = ends[0]
    begun = time.monotonic()
    for number in range(50_000):
        left.post(Note(number))
    assert time.monotonic() - begun < 5


def test_the_end_is_heard_and_sending_afterwards_says_so(
    ends: tuple[Channel[Note, Other], Channel[Other, Note]],
) -> None:
    left, right = ends
    left.send(Note(1))
    left.close()
    assert list(right.messages()) == [Note(1)]
    with pytest.raises(EngineDown, match="ended"):
        left.send(Note(2))
    left.post(Note(3))


def test_two_versions_do_not_talk() -> None:
    left, right = socket.socketpair()
    old: Channel[Any, Any] = Channel(left, NOTES, OTHERS)
    new: Channel[Any, Any] = Channel(right, codec_of(Other | Note), NOTES)
    with pytest.raises(WireFault, match="another version"):
        next(old.messages())
    old.close()
    new.close()


def test_what_is_no_message_of_the_other_side_is_refused() -> None:
    left, right = _pair()
    list_of = left.messages()
    right._queue.put(framed((3,)))
    with pytest.raises(WireFault, match=r"Other\.text: int came"):
        next(list_of)
    left.close()
    right.close()


def test_one_message_that_can_not_be_sent_takes_no_other_along(
    ends: tuple[Channel[Note, Other], Channel[Other, Note]], caplog: pytest.LogCaptureFixture
) -> None:
    left, right = ends
    with pytest.raises(WireFault):
        left.send(Note(2**70))
    left.post(Note(2**70))
    left.post(Note(1))
    assert next(right.messages()) == Note(1)
    assert "could not be sent" in caplog.text
