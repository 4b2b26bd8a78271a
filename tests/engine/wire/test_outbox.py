"""What waits for what: by a clock that is set, and by the real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cynosure.core.errors import EngineFault, InputError
from cynosure.engine import (
    Cancelled,
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptLogprobs,
    TokenEvent,
    Usage,
)
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.wire.messages import MAX_STREAM_DELAY_S, Setup, Told
from cynosure.engine.wire.outbox import NUM_AT_ONCE, Outbox

DELAY_S = 0.2
#: What a machine that is busy with other things may add.
SLACK_S = 0.15
USAGE = Usage(1, 0, 1)


def token(token_id: int, request_id: str = "a") -> TokenEvent:
    return TokenEvent(request_id, token_id, -0.5)


def finished(request_id: str = "a") -> Finished:
    return Finished(request_id, FinishReason.LENGTH, USAGE)


@dataclass
class Heard:
    """What was posted, and when."""

    posts: list[tuple[float, Told]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def post(self, told: Told) -> None:
        with self.changed:
            self.posts.append((time.monotonic(), told))
            self.changed.notify_all()

    def until(self, count: int) -> list[Told]:
        """The posts, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.posts) >= count, 5), self.posts
            return [told for _, told in self.posts]

    def events(self, request_id: str) -> list[Event]:
        return [event for _, told in self.posts for event in told.events if event.request_id == request_id]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def outbox(heard: Heard) -> Iterator[Outbox]:
    made = Outbox(heard.post, DELAY_S, num_at_once=1)
    yield made
    made.close()


def test_without_a_delay_each_event_goes_as_it_is_told(heard: Heard) -> None:
    outbox = Outbox(heard.post, 0.0)
    told = [token(1), token(2), finished()]
    for event in told:
        outbox.tell("m", event)
    assert [post.events for _, post in heard.posts] == [(event,) for event in told]
    outbox.close()


def test_the_first_token_goes_at_once_and_the_next_ones_together(outbox: Outbox, heard: Heard) -> None:
    begun = time.monotonic()
    outbox.tell("m", token(1))
    assert heard.until(1) == [Told("m", (token(1),))]
    assert heard.posts[0][0] - begun < DELAY_S / 2
    for number in (2, 3, 4):
        time.sleep(DELAY_S / 20)
        outbox.tell("m", token(number))
    assert len(heard.posts) == 1
    assert heard.until(2)[1] == Told("m", (token(2), token(3), token(4)))


def test_the_first_steps_of_each_answer_wait_for_nothing(heard: Heard) -> None:
    outbox = Outbox(heard.post, DELAY_S)
    for request_id in ("a", "b"):
        for number in range(NUM_AT_ONCE):
            begun = time.monotonic()
            outbox.tell("m", token(number, request_id))
            while len(heard.events(request_id)) <= number:
                assert time.monotonic() - begun < DELAY_S / 2
            time.sleep(DELAY_S / 20)
        outbox.tell("m", token(NUM_AT_ONCE, request_id))
        time.sleep(DELAY_S / 4)
        assert len(heard.events(request_id)) == NUM_AT_ONCE, "the next one waits"
        heard.until(len(heard.posts) + 1)
    outbox.close()


def test_no_token_waits_longer_than_the_delay(outbox: Outbox, heard: Heard) -> None:
    """Also where the next one was expected and never came."""
    outbox.tell("m", token(1))
    heard.until(1)
    time.sleep(0.01)
    begun = time.monotonic()
    outbox.tell("m", token(2))
    heard.until(2)
    assert DELAY_S / 2 < heard.posts[1][0] - begun < DELAY_S + SLACK_S


def test_a_token_whose_next_would_come_too_late_is_not_held(outbox: Outbox, heard: Heard) -> None:
    outbox.tell("m", token(1))
    heard.until(1)
    time.sleep(1.5 * DELAY_S)
    begun = time.monotonic()
    outbox.tell("m", token(2))
    heard.until(2)
    assert heard.posts[1][0] - begun < DELAY_S / 2


def test_tokens_of_one_step_are_no_sign_that_the_next_step_is_near(outbox: Outbox, heard: Heard) -> None:
    for number in range(3):
        begun = time.monotonic()
        for part in range(4):
            outbox.tell("m", token(4 * number + part))
        while len(heard.events("a")) < 4 * (number + 1):
            assert time.monotonic() - begun < DELAY_S / 2
        time.sleep(1.2 * DELAY_S)


@pytest.mark.parametrize("end", [finished(), Cancelled("a", USAGE), Failed("a", EngineFault("no"))], ids=type)
def test_an_end_waits_for_nothing_and_takes_all_along(outbox: Outbox, heard: Heard, end: Event) -> None:
    for request_id in ("a", "b"):
        outbox.tell("m", token(1, request_id))
    while len(heard.events("b")) < 1:
        heard.until(1)
    time.sleep(0.01)
    begun = time.monotonic()
    for event in (token(2), token(2, "b"), end):
        outbox.tell("m", event)
    while len(heard.events("a")) < 3:
        assert time.monotonic() - begun < DELAY_S / 2
    assert heard.events("a") == [token(1), token(2), end]
    assert heard.events("b") == [token(1, "b"), token(2, "b")], "what was held leaves with it"


def test_the_name_of_one_that_ended_begins_anew(outbox: Outbox, heard: Heard) -> None:
    for event in (token(1), finished()):
        outbox.tell("m", event)
    outbox.tell("m", token(7))
    begun = time.monotonic()
    while len(heard.events("a")) < 3:
        assert time.monotonic() - begun < DELAY_S / 2


def test_models_are_told_of_apart_and_each_in_order(outbox: Outbox, heard: Heard) -> None:
    names = ("m", "n")
    for number in range(40):
        for name in names:
            outbox.tell(name, token(number))
    outbox.close()
    for name in names:
        events = [event for _, told in heard.posts if told.model == name for event in told.events]
        assert events == [token(number) for number in range(40)]
    assert len(heard.posts) < 80, "they went together"


def test_what_is_told_of_a_prompt_comes_before_its_tokens(outbox: Outbox, heard: Heard) -> None:
    scores = PromptLogprobs("a", 1, (), ())
    outbox.tell("m", scores)
    outbox.tell("m", token(1))
    heard.until(1)
    outbox.close()
    assert heard.events("a") == [scores, token(1)]


def test_closing_posts_what_is_held_and_later_ones_go_at_once(outbox: Outbox, heard: Heard) -> None:
    outbox.tell("m", token(1))
    heard.until(1)
    outbox.tell("m", token(2))
    outbox.close()
    assert heard.events("a") == [token(1), token(2)]
    outbox.tell("m", token(3))
    assert heard.events("a") == [token(1), token(2), token(3)]


@pytest.mark.parametrize("delay_s", [-0.001, MAX_STREAM_DELAY_S + 0.001, float("nan")])
def test_a_delay_that_is_none_is_refused(delay_s: float) -> None:
    with pytest.raises(InputError, match="may be 0 to"):
        Setup((), PoolSettings(), stream_delay_s=delay_s)
