"""Hold what is told of requests back for a moment, so that more of it leaves at once. Knows no socket.

To send one token costs nearly what it does to send ten: threads wake in two processes, and take cores from
what computes. So a token waits for the next ones, as small packets do under Nagle's algorithm, but no longer
than a bound, and only where another is due within it. An answer's end waits for nothing, nor do its first
tokens: whoever guards a stream holds its first word back until the next begins.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from cynosure.engine.request import Event, PromptLogprobs, TokenEvent
from cynosure.engine.wire.messages import Told

#: Tokens of an answer that are told closer together come from one step.
_ONE_STEP_S = 0.0005

NUM_AT_ONCE = 4
"""So many steps of an answer are told of as they are made."""


class Outbox:
    """Gathers events of requests by their model, and posts them. For any thread.

    Events of a request keep their order, and so do those of a model.
    """

    def __init__(
        self,
        post: Callable[[Told], None],
        delay_s: float,
        num_at_once: int = NUM_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Have nothing wait longer than `delay_s`; with 0, each event is posted as it is told.

        An answer's first `num_at_once` steps do not wait either.
        """
        self._post = post
        self._delay_s = delay_s
        self._num_at_once = num_at_once
        self._clock = clock
        self._changed = threading.Condition()
        self._held: dict[str, list[Event]] = {}
        #: When what is held must leave; None where nothing is.
        self._due_s: float | None = None
        #: Of each answer under way: when its last step told of it, how long after the one before, how many.
        self._paces: dict[tuple[str, str], tuple[float, float, int]] = {}
        self._is_closing = False
        self._thread = threading.Thread(target=self._post_all, name="outbox", daemon=True)
        if delay_s:
            self._thread.start()

    def tell(self, model: str, event: Event) -> None:
        """Have an event posted within the delay."""
        if not self._delay_s:
            self._post(Told(model, (event,)))
            return
        with self._changed:
            due_s = self._due(model, event, self._clock())
            self._held.setdefault(model, []).append(event)
            if self._due_s is None or due_s < self._due_s:
                self._due_s = due_s
                self._changed.notify()

    def close(self) -> None:
        """Post what is held, and hold nothing any more."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._delay_s = 0.0

    def _due(self, model: str, event: Event, now: float) -> float:
        """When an event must leave: now, or with those that are held."""
        latest_s = now + self._delay_s if self._due_s is None else self._due_s
        if isinstance(event, PromptLogprobs):
            return latest_s
        answer = (model, event.request_id)
        if not isinstance(event, TokenEvent):
            self._paces.pop(answer, None)
            return now
        last_s, gap_s, num_steps = self._paces.get(answer, (-math.inf, math.inf, 0))
        if now - last_s >= _ONE_STEP_S:
            gap_s, num_steps = now - last_s, num_steps + 1
            self._paces[answer] = now, gap_s, num_steps
        # The next is expected after as long as this one took. If that is too late, what is held leaves now.
        return latest_s if num_steps > self._num_at_once and now + gap_s <= latest_s else now

    def _post_all(self) -> None:
        while True:
            with self._changed:
                while not self._is_closing and (left_s := self._left_s) != 0:
                    self._changed.wait(left_s)
                held, self._held, self._due_s = self._held, {}, None
                is_closing = self._is_closing
            for model, events in held.items():
                self._post(Told(model, tuple(events)))
            if is_closing:
                return

    @property
    def _left_s(self) -> float | None:
        """How long what is held may still wait; None where nothing is."""
        return None if self._due_s is None else max(0.0, self._due_s - self._clock())
