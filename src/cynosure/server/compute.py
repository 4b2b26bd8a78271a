"""Run what takes its time on one thread, beside the event loop. Knows nothing of what is computed.

Jobs of all callers take turns in the order in which they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ComputeThread:
    """One thread; whoever gives it jobs never competes with himself for cores."""

    def __init__(self) -> None:
        """Start the thread at its first job."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job from any thread."""
        return self._pool.submit(job)

    async def run(self, job: Callable[[], T]) -> T:
        """Queue a job and wait for its result; the event loop goes on."""
        return await asyncio.wrap_future(self.submit(job))

    def close(self) -> None:
        """Drop what is queued, and wait for the job that is running."""
        self._pool.shutdown(wait=True, cancel_futures=True)
