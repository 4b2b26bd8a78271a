"""Hand a request's events from an engine's thread to an event loop. Knows nothing of what they say.

Waking a loop costs more than what most events take: all that comes before the loop gets there wakes it once,
whatever requests it is for, and whoever reads a mailbox gets all that is in it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from cynosure.engine import Event


class Mailbox:
    """The events of one request; any thread puts them in, and a task of the loop takes them out."""

    def __init__(self, round_: DeliveryRound) -> None:
        """Be empty."""
        self._round = round_
        self._events: deque[Event] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Put an event in, and have the loop told.

        Raises:
            RuntimeError: the loop is closed.
        """
        self._events.append(event)
        self._round.visit(self)

    async def take(self) -> list[Event]:
        """Wait until there are events, and take all."""
        while not self._events:
            self._waiting = self._round.loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return [self._events.popleft() for _ in range(len(self._events))]

    def wake(self) -> None:
        """Have who waits look; for the loop's thread."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class DeliveryRound:
    """Wakes the readers of one loop's mailboxes, once for all that came meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve a loop."""
        self.loop = loop
        self._to_visit: deque[Mailbox] = deque()
        self._is_due = False

    def visit(self, mailbox: Mailbox) -> None:
        """Have a mailbox looked at; for any thread.

        Raises:
            RuntimeError: the loop is closed.
        """
        self._to_visit.append(mailbox)
        # A mailbox that is added while a round goes is looked at in that one, or has it made again.
        if not self._is_due:
            self._is_due = True
            try:
                self.loop.call_soon_threadsafe(self._go)
            except RuntimeError:
                self._is_due = False
                raise

    def _go(self) -> None:
        self._is_due = False
        while self._to_visit:
            self._to_visit.popleft().wake()
