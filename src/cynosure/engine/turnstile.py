"""Let one model compute at a time, and say who is next. Knows nothing of models or of what they compute.

All models of a process share its cores, and native kernels take one caller at a time. Two kinds of turn are
taken: *steps* of models that generate, on which people wait token by token, and *batches* of encoders, which
are long. Who came first goes first, save that a step waits for one batch at most: the one that ran when it
came, or the one that was let in before it. A batch in its turn waits for one step of each model at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: For so long after a step, batches expect another one.
_STEPS_LINGER_S = 1.0


@dataclass(eq=False)
class _Ticket:
    is_batch: bool
    has_waited: bool = False


class Turnstile:
    """Fair turns at computing. For any thread; not to be entered twice by one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nobody inside."""
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: list[_Ticket] = []
        self._inside: _Ticket | None = None
        self._last_step_s = float("-inf")
        self._entered_s = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Compute one step of a model that generates."""
        with self._turn(_Ticket(is_batch=False)):
            yield

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Compute one bounded batch of an encoder."""
        with self._turn(_Ticket(is_batch=True)):
            yield

    @property
    def is_shared(self) -> bool:
        """Whether a model generates now, so that a batch should be short."""
        with self._changed:
            is_waited_for = any(not ticket.is_batch for ticket in self._queue)
            return is_waited_for or self._clock() - self._last_step_s < _STEPS_LINGER_S

    @property
    def age_s(self) -> float:
        """For how long whoever is inside has computed; 0 where nobody is."""
        # Without the lock: who watches must not wait for those who compute.
        return 0.0 if self._inside is None else max(0.0, self._clock() - self._entered_s)

    @contextmanager
    def _turn(self, ticket: _Ticket) -> Iterator[None]:
        with self._changed:
            ticket.has_waited = self._inside is not None and self._inside.is_batch
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._inside is None and self._next() is ticket)
            self._queue.remove(ticket)
            self._entered_s = self._clock()
            self._inside = ticket
            if ticket.is_batch:
                for other in self._queue:
                    other.has_waited = True
        try:
            yield
        finally:
            with self._changed:
                self._inside = None
                if not ticket.is_batch:
                    self._last_step_s = self._clock()
                self._changed.notify_all()

    def _next(self) -> _Ticket:
        first = self._queue[0]
        if not first.is_batch:
            return first
        return next((other for other in self._queue if not other.is_batch and other.has_waited), first)
