from __future__ import annotations

import threading

from cynosure.core.errors import IndexFault
from cynosure.server.runtime import Report, Runtime
from cynosure.server.services import Services
from tests.server.fakes import services


def test_it_loads_beside_its_caller_and_says_how_far_it_is() -> None:
    may_end, reported, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[tuple[str, int, int]] = []

    def load(report: Report) -> Services:
        report("indexing", 3, 10)
        reported.set()
        may_end.wait(10)
        return services()

    runtime = Runtime(load, watch=lambda *progress: seen.append(progress))
    runtime.start(done.set)
    assert reported.wait(10)
    assert runtime.services is None
    assert (runtime.progress.stage, runtime.progress.done, runtime.progress.total) == ("indexing", 3, 10)
    may_end.set()
    assert done.wait(10)
    assert runtime.services is not None
    assert runtime.failure is None
    assert seen == [("indexing", 3, 10)]
    runtime.stop()


def test_a_failure_is_kept() -> None:
    done = threading.Event()

    def load(_: Report) -> Services:
        raise IndexFault("damaged. Build it again.")

    runtime = Runtime(load)
    runtime.start(done.set)
    assert done.wait(10)
    assert isinstance(runtime.failure, IndexFault)
    assert runtime.services is None
    runtime.stop()


def test_stopping_ends_a_long_load_at_its_next_report() -> None:
    started, num_reports = threading.Event(), [0]

    def load(report: Report) -> Services:
        while True:
            num_reports[0] += 1
            report("endless", num_reports[0], 0)
            started.set()

    runtime = Runtime(load)
    runtime.start()
    assert started.wait(10)
    runtime.stop()  # returns, since the thread has ended
    assert runtime.failure is None
    assert runtime.services is None
