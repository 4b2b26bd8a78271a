from __future__ import annotations

import asyncio
import threading

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


def test_failures_come_back_and_nothing_is_begun_after_the_end() -> None:
    compute, begun = ComputeThread(), threading.Event()

    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(compute.run(broken))
    runs, may_end = threading.Event(), threading.Event()

    def waits() -> bool:
        runs.set()
        return may_end.wait(10)

    running = compute.submit(waits)
    assert runs.wait(10)
    queued = compute.submit(begun.set)
    threading.Timer(0.05, may_end.set).start()
    compute.close()
    assert running.result()
    assert queued.cancelled()
    assert not begun.is_set()
