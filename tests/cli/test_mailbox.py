"""Events come from another thread: all of them, in order, and with few wakes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cynosure.cli.mailbox import DeliveryRound, Mailbox
from cynosure.engine import Event, TokenEvent

NUM_EVENTS = 3000


def token(number: int) -> TokenEvent:
    return TokenEvent("r", number, None)


class CountedLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread woke it."""

    num_woken = 0

    def call_soon_threadsafe(self, *arguments: object, **options: object) -> asyncio.Handle:  # type: ignore[override]
        self.num_woken += 1
        return super().call_soon_threadsafe(*arguments, **options)  # type: ignore[arg-type]


def test_every_event_comes_once_and_in_order() -> None:
    async def run() -> list[list[Event]]:
        boxes = [Mailbox(delivery) for delivery in [DeliveryRound(asyncio.get_running_loop())] * 3]

        async def read(box: Mailbox) -> list[Event]:
            read: list[Event] = []
            while len(read) < NUM_EVENTS:
                taken = await box.take()
                assert taken
                read += taken
            return read

        def write() -> None:
            for number in range(NUM_EVENTS):
                for box in boxes:
                    box.put(token(number))

        writer = threading.Thread(target=write)
        writer.start()
        found = await asyncio.wait_for(asyncio.gather(*map(read, boxes)), 30)
        writer.join()
        return found

    assert asyncio.run(run()) == [[token(number) for number in range(NUM_EVENTS)]] * 3


def test_what_comes_together_wakes_the_loop_once() -> None:
    async def run() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountedLoop)
        delivery = DeliveryRound(loop)
        boxes = [Mailbox(delivery) for _ in range(5)]
        readers = [asyncio.create_task(box.take()) for box in boxes]
        await asyncio.sleep(0)
        before = loop.num_woken
        # From this thread, so that the loop can't come between.
        for number in range(4):
            for box in boxes:
                box.put(token(number))
        assert await asyncio.gather(*readers) == [[token(number) for number in range(4)]] * 5
        return loop.num_woken - before

    with asyncio.Runner(loop_factory=CountedLoop) as runner:
        assert runner.run(run()) == 1


def test_a_reader_that_left_breaks_nothing() -> None:
    async def run() -> None:
        box = Mailbox(DeliveryRound(asyncio.get_running_loop()))
        left = asyncio.create_task(box.take())
        await asyncio.sleep(0)
        left.cancel()
        box.put(token(1))
        await asyncio.sleep(0)
        assert left.cancelled()
        assert await box.take() == [token(1)]

    asyncio.run(run())


def test_a_closed_loop_is_told_of_each_time() -> None:
    """Whoever puts an event in learns that nobody is there, and so does the next one."""
    loop = asyncio.new_event_loop()
    delivery = DeliveryRound(loop)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            Mailbox(delivery).put(token(1))
