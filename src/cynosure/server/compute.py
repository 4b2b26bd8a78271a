"""Run all computing on one thread, beside the event loop. Knows nothing of what is computed.

A job is short: a question, a slice of texts, one token. Jobs of all requests take turns in the order in
which they come, so that a long continuation holds nobody up for longer than a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ComputeThread:
    """One thread for tensor work; requests never compete for its cores."""

    def __init__(self) -> None:
        """Start the thread at its first job."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job from any thread."""
        return self._pool.submit(job)

    async def run(self, job: Callable[[], T]) -> T:
        """Queue a job and wait for its result; the event loop goes on."""
        return await asyncio.wrap_future(self.submit(job))

    async def iterate(self, iterator: Iterator[T]) -> AsyncGenerator[T]:
        """Advance an iterator by one job an item; it goes no further once nobody takes the items."""
        items = _Items(iterator)
        try:
            while await self.run(items.advance):
                yield items.current
        finally:
            # On the thread, behind a step that may still be running there.
            self._pool.submit(items.close)

    def close(self) -> None:
        """Drop what is queued, and wait for the job that is running."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Items(Generic[T]):
    """An iterator with its last item beside it, since `StopIteration` can't pass through a future."""

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator = iterator
        self._item: list[T] = []

    def advance(self) -> bool:
        self._item = []
        for item in self._iterator:
            self._item.append(item)
            return True
        return False

    @property
    def current(self) -> T:
        return self._item[0]

    def close(self) -> None:
        """End a generator where it stands, so that what it holds is freed now."""
        if isinstance(self._iterator, Generator):
            self._iterator.close()
