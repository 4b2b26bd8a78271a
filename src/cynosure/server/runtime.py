"""Load the services once and say how far that is. Knows nothing of HTTP.

Models compute behind `Services`, in the engine's process; the thread here only loads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from cynosure.server.compute import ComputeThread
from cynosure.server.services import EngineProcess, Services

Report = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done and how much there is to do; 0 where that is unknown."""

Load = Callable[[Report], Services]


@dataclass(frozen=True)
class Progress:
    """How far loading is."""

    stage: str
    done: int = 0
    total: int = 0


class Stopped(Exception):
    """Loading was asked to stop; nobody's failure."""


class Runtime:
    """Services that are loading, then ready or failed."""

    def __init__(self, load: Load, watch: Report | None = None) -> None:
        """Hold what loads; `watch` is told of progress on the thread that loads."""
        self._thread = ComputeThread()
        self.progress = Progress("starting")
        self._load = load
        self._watch = watch
        self._stopping = threading.Event()
        self._loading: Future[Services] | None = None

    def start(self, when_done: Callable[[], None] | None = None) -> None:
        """Begin to load on a thread; `when_done` is called there, however it ended."""
        assert self._loading is None, "a runtime starts once"
        self._loading = self._thread.submit(lambda: self._load(self._report))
        if when_done is not None:
            self._loading.add_done_callback(lambda _: when_done())

    @property
    def services(self) -> Services | None:
        """What answers requests; `None` until it is loaded."""
        loading = self._loading
        if loading is None or not loading.done() or loading.cancelled() or loading.exception() is not None:
            return None
        return loading.result()

    @property
    def engine(self) -> EngineProcess | None:
        """The process that computes; `None` until all is loaded, and where there is none of its own."""
        services = self.services
        return None if services is None else services.engine

    @property
    def failure(self) -> BaseException | None:
        """Why loading failed; `None` where it did not, or was stopped."""
        loading = self._loading
        if loading is None or not loading.done() or loading.cancelled():
            return None
        failure = loading.exception()
        return None if isinstance(failure, Stopped) else failure

    def stop(self) -> None:
        """End loading at its next report, the models, and the thread after the job that it runs."""
        self._stopping.set()
        # First the thread: a load that is just ending leaves services to close.
        self._thread.close()
        services = self.services
        if services is not None:
            services.close()

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise Stopped(stage)
        self.progress = Progress(stage, done, total)
        if self._watch is not None:
            self._watch(stage, done, total)
