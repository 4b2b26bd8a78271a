from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from cynosure.server.compute import ComputeThread


def test_jobs_run_on_one_thread_beside_the_loop() -> None:
    compute = ComputeThread()

    async def main() -> set[int]:
        jobs = [compute.run(threading.get_ident) for _ in range(20)]
        return set(await asyncio.gather(*jobs))

    threads = asyncio.run(main())
    compute.close()
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_the_loop_goes_on_while_a_job_runs() -> None:
    compute, may_end = ComputeThread(), threading.Event()

    async def main() -> str:
        job = asyncio.ensure_future(compute.run(lambda: may_end.wait(10)))
        await asyncio.sleep(0.05)  # returns although the job has not
        assert not job.done()
        may_end.set()
        return "ended" if await job else "timed out"

    assert asyncio.run(main()) == "ended"
    compute.close()


def test_two_iterations_take_turns() -> None:
    compute, order = ComputeThread(), []

    async def take(name: str) -> None:
        async for _ in compute.iterate(iter(range(3))):
            order.append(name)

    async def main() -> None:
        await asyncio.gather(take("a"), take("b"))

    asyncio.run(main())
    compute.close()
    assert order == ["a", "b"] * 3


def test_an_iterator_that_nobody_takes_from_is_closed() -> None:
    compute, closed = ComputeThread(), threading.Event()
    given: list[int] = []

    def endless() -> Iterator[int]:
        try:
            for number in iter(int, 1):
                given.append(number)
                yield number
        finally:
            closed.set()

    async def main() -> None:
        async with aclosing(compute.iterate(endless())) as numbers:
            async for _ in numbers:
                break

    asyncio.run(main())
    compute.close()
    assert closed.is_set()
    assert len(given) == 1


def test_failures_come_back() -> None:
    compute = ComputeThread()

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    async def main() -> list[int]:
        return [number async for number in compute.iterate(broken())]

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(main())
    compute.close()
