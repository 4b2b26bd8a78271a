"""Take items from several streams as they come. Knows nothing of what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def interleaved(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Each item with the place of its stream; the first failure ends all, and closing it closes all."""
    if len(streams) == 1:
        # The usual case needs no task of its own.
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    # Bounded, so that who reads slowly is waited for. A stream's last entry is its failure, or None.
    ready: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(len(streams))

    async def pump(place: int, stream: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    await ready.put((place, item))
        except Exception as failure:
            await ready.put(failure)
        else:
            await ready.put(None)

    tasks = [asyncio.create_task(pump(place, stream)) for place, stream in enumerate(streams)]
    num_open = len(tasks)
    try:
        while num_open:
            found = await ready.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                num_open -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
