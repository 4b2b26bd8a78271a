"""Run an engine core on a thread of its own; callers submit and cancel from any thread. Computes nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cynosure.core.errors import EngineFault
from cynosure.engine.core import EngineCore, Snapshot
from cynosure.engine.request import Event, Request

_log = logging.getLogger(__name__)

Notify = Callable[[Event], None]


@dataclass(frozen=True)
class _Add:
    request: Request
    notify: Notify


@dataclass(frozen=True)
class _Cancel:
    request_id: str


class Engine:
    """Many requests on one model.

    `submit` checks a request at once; from then on its events come on the engine's thread, and end with
    exactly one that is terminal. `notify` must not block. Times of requests are `time.monotonic()`.
    """

    def __init__(self, core: EngineCore) -> None:
        """Start the thread."""
        self._core = core
        self._inbox: queue.SimpleQueue[_Add | _Cancel | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """How busy the engine is; a moment old."""
        return self._core.snapshot

    def submit(self, request: Request, notify: Notify) -> None:
        """Check a request and queue it; `arrival_s` is set here.

        Raises:
            InputError: a token id or a parameter is not of this model.
            InputTooLong: prompt and answer would be longer than the model takes.
            EngineFault: the engine was closed.
        """
        if self._is_closed:
            raise EngineFault("the engine is shutting down and takes no requests. Try again once it is up.")
        self._core.check(request)
        self._inbox.put(_Add(replace(request, arrival_s=time.monotonic()), notify))

    def cancel(self, request_id: str) -> None:
        """Forget a request; its pages are free within one step."""
        self._inbox.put(_Cancel(request_id))

    def close(self) -> None:
        """End what is under way and stop the thread."""
        self._is_closed = True
        self._inbox.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while self._take_mail():
            try:
                self._core.step(time.monotonic())
            except Exception as error:
                # A fault of ours, not of one request: none of those under way can be trusted any more.
                _log.exception("a step of the engine broke")
                self._core.fail_all(
                    EngineFault(f"a step of the engine broke: {error}. Send the request again.")
                )
        self._core.fail_all(EngineFault("the engine is shutting down. Send the request again once it is up."))

    def _take_mail(self) -> bool:
        """Hand all mail to the core, waiting for some where there is nothing else to do; `False` to stop."""
        while True:
            try:
                mail = self._inbox.get(block=not self._core.has_work)
            except queue.Empty:
                return True
            if mail is None:
                return False
            if isinstance(mail, _Add):
                self._core.add(mail.request, mail.notify)
            else:
                self._core.cancel(mail.request_id)
