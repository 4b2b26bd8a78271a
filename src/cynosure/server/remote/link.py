"""Hold one connection to an engine's process: who waits for what from it. Starts and ends no process.

Calls go out from any thread and never block; answers come on the thread that reads.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from cynosure.core.errors import CynosureError, EngineDown
from cynosure.engine.pool.card import ModelCard
from cynosure.engine.request import Event, Failed, PromptLogprobs, Request, TokenEvent
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.logs import log_again
from cynosure.engine.wire.messages import (
    Call,
    CallFailed,
    Cancel,
    Done,
    Hello,
    LogLine,
    Pulse,
    Reply,
    SetupFailed,
    Submit,
    Told,
)
from cynosure.observe.load import EngineLoad

_log = logging.getLogger(__name__)

Notify = Callable[[Event], None]

IDLE = EngineLoad()


class EngineLink:
    """One life of an engine's process, as the server sees it."""

    def __init__(self, channel: Channel[Call, Reply]) -> None:
        """Take a channel; nothing is read yet."""
        self._channel = channel
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._heard: dict[tuple[str, str], Notify] = {}
        self._loads: Mapping[str, EngineLoad] = {}
        self._end: EngineDown | None = None
        self.cards: Future[dict[str, ModelCard]] = Future()
        self.loaded: tuple[str, ...] = ()
        self.last_heard_s = time.monotonic()
        #: For how long the step that runs there has run, as of the last pulse.
        self.step_age_s = 0.0
        self.load_age_s = 0.0

    def submit(self, model: str, request: Request, notify: Notify) -> None:
        """Begin a request; `notify` is called on the reading thread, last with a terminal event.

        Raises:
            EngineDown: the connection has ended.
            WireFault: the request can't be sent.
        """
        key = (model, request.request_id)
        with self._lock:
            if self._end is not None:
                raise self._end
            self._heard[key] = notify
        try:
            self._channel.send(Submit(model, request))
        except CynosureError:
            with self._lock:
                self._heard.pop(key, None)
            raise

    def cancel(self, model: str, request_id: str) -> None:
        """Forget a request that has not ended; the engine frees its pages within a step."""
        with self._lock:
            is_known = self._end is None and (model, request_id) in self._heard
        if is_known:
            self._channel.post(Cancel(model, request_id))

    def call(self, make: Callable[[int], Call]) -> Future[Any]:
        """Send a call with a number of its own; the future is its answer."""
        future: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._end is not None:
                future.set_exception(self._end)
                return future
            self._waiting[number] = future
        try:
            self._channel.send(make(number))
        except CynosureError as error:
            with self._lock:
                is_mine = self._waiting.pop(number, None) is not None
            if is_mine:
                future.set_exception(error)
        return future

    def send(self, message: Call) -> None:
        """Send what has no answer."""
        self._channel.send(message)

    def load_of(self, model: str) -> EngineLoad:
        """How busy a model was a moment ago."""
        return self._loads.get(model, IDLE)

    def read(self) -> str:
        """Hand on what comes until the connection ends; returns why, where that can be told."""
        try:
            for message in self._channel.messages():
                self.last_heard_s = time.monotonic()
                self._hand_on(message)
        except CynosureError as fault:
            _log.exception("the engine said what can't be understood")
            return str(fault)
        return ""

    def end(self, why: EngineDown) -> None:
        """Fail all that waits, and whatever is asked from now on."""
        with self._lock:
            self._end = self._end or why
            waiting, self._waiting = list(self._waiting.values()), {}
            heard, self._heard = dict(self._heard), {}
        self._loads, self.loaded = {}, ()
        if not self.cards.done():
            waiting.append(self.cards)
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(why)
        for (_, request_id), notify in heard.items():
            self._notify(notify, Failed(request_id, why))
        self._channel.close(wait_s=0.1)

    def _hand_on(self, message: Reply) -> None:
        if isinstance(message, Told):
            self._tell(message)
        elif isinstance(message, Done):
            self._settle(message.call_id, lambda future: future.set_result(message.result))
        elif isinstance(message, CallFailed):
            self._settle(message.call_id, lambda future: future.set_exception(message.error))
        elif isinstance(message, Pulse):
            self._loads, self.loaded = message.loads, message.loaded
            self.step_age_s = message.step_age_s
            self.load_age_s = message.load_age_s
        elif isinstance(message, LogLine):
            log_again(message)
        elif isinstance(message, Hello):
            self.cards.set_result({card.name: card for card in message.cards})
        elif isinstance(message, SetupFailed):
            self.cards.set_exception(message.error)

    def _tell(self, told: Told) -> None:
        with self._lock:
            heard = [(self._who_hears(told.model, event), event) for event in told.events]
        for notify, event in heard:
            if notify is not None:
                self._notify(notify, event)

    def _who_hears(self, model: str, event: Event) -> Notify | None:
        """Whoever asked for it; an end is the last that he hears."""
        key = (model, event.request_id)
        if isinstance(event, TokenEvent | PromptLogprobs):
            return self._heard.get(key)
        return self._heard.pop(key, None)

    def _settle(self, number: int, settle: Callable[[Future[Any]], None]) -> None:
        with self._lock:
            future = self._waiting.pop(number, None)
        # One that was cancelled has nobody to tell.
        if future is not None and future.set_running_or_notify_cancel():
            settle(future)

    def _notify(self, notify: Notify, event: Event) -> None:
        try:
            notify(event)
        except Exception:
            # Whoever listened is gone; the others must not go with him.
            _log.exception("nobody takes the events of a request")
