"""Keep every tenant's shelf apart, and index on threads of its own. Knows nothing of HTTP or of keys.

Each tenant has a folder. A kill at any moment leaves what was told before: what waited is indexed when its
tenant comes again, and an index is written aside and renamed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import apsw

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval.library.catalog import Catalog, Clock
from cynosure.retrieval.library.filters import Filter
from cynosure.retrieval.library.indexing import fail_waiting, index_round
from cynosure.retrieval.library.records import FileHit, LibraryLimits
from cynosure.retrieval.library.shelf import Shelf
from cynosure.retrieval.protocols import Embedder

#: The folder of whoever asks a server that wants no key.
ANYBODY = "anybody"

#: Stores that are indexed at one time: a file that takes minutes holds up few.
NUM_INDEXERS = 2

#: Questions that are ranked at one time; others wait.
MAX_ASKING = 4

_TENANT = re.compile(r"[0-9A-Za-z_-]{1,64}")

_log = logging.getLogger(__name__)


class _Closing(Exception):
    """The library is being closed; nobody's failure."""


class Library:
    """All shelves below one folder, which one process has at a time."""

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        limits: LibraryLimits | None = None,
        clock: Clock = time.time,
    ) -> None:
        """Touch nothing yet: folders are made when they are needed."""
        self.limits = limits or LibraryLimits()
        self._folder = folder
        self._embedder = embedder
        self._clock = clock
        self._lock = threading.Lock()
        self._held: int | None = None
        self._shelves: dict[str, Shelf] = {}
        self._threads = ThreadPoolExecutor(NUM_INDEXERS, thread_name_prefix="indexing")
        self._askers = ThreadPoolExecutor(MAX_ASKING, thread_name_prefix="uploads")
        self._closing = threading.Event()
        #: Stores that are to be indexed, and those that are: of these, whether there is more to do.
        self._queued: set[tuple[str, str]] = set()
        self._running: set[tuple[str, str]] = set()

    def hold(self) -> None:
        """Take the folder, unless it is taken already; `of` does so by itself.

        Raises:
            EnvironmentFault: it can't be used, or another process has it.
        """
        with self._lock:
            self._hold()

    def of(self, tenant: str) -> Shelf:
        """One tenant's shelf; what waits there is taken up again.

        Raises:
            EnvironmentFault: the folder can't be used, or another process has it.
        """
        name = tenant or ANYBODY
        assert _TENANT.fullmatch(name), "a tenant's name is made by us"
        with self._lock:
            if name in self._shelves:
                return self._shelves[name]
            shelf = self._opened(name)
            self._shelves[name] = shelf
        for store_id in shelf.catalog.stale():
            self._wake(name, store_id)
        return shelf

    def ask(
        self, tenant: str, store_id: str, query: str, max_results: int, only: Filter | None = None
    ) -> Future[list[FileHit]]:
        """Search one tenant's store on a thread; raises there as `of` and `Shelf.search` do."""
        return self._askers.submit(lambda: self.of(tenant).search(store_id, query, max_results, only))

    def close(self) -> None:
        """Give up what is being indexed, and let go of the folder; what waited waits on."""
        self._closing.set()
        for threads in (self._threads, self._askers):
            threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for shelf in self._shelves.values():
                shelf.catalog.close()
            self._shelves.clear()
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def _opened(self, name: str) -> Shelf:
        folder = self._folder / name
        self._hold()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for left in folder.glob("*.part"):
                left.unlink(missing_ok=True)
            catalog = Catalog(folder / "catalog.sqlite", self.limits, self._clock)
        except (OSError, apsw.Error) as fault:
            raise self._unusable(fault) from fault
        return Shelf(folder, catalog, self._embedder, lambda store_id: self._wake(name, store_id))

    def _hold(self) -> None:
        if self._held is not None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise self._unusable(fault) from fault
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(lock)
            raise EnvironmentFault(
                f"another server keeps files in {self._folder}. Stop it, or name another folder: --files-dir."
            ) from fault
        self._held = lock

    def _unusable(self, fault: Exception) -> EnvironmentFault:
        return EnvironmentFault(
            f"files can't be kept in {self._folder} ({fault}). Make it writable, or name another folder: "
            "--files-dir."
        )

    def _wake(self, name: str, store_id: str) -> None:
        """Have a store brought up to date; one that is being is looked at again behind that."""
        key = (name, store_id)
        with self._lock:
            if self._closing.is_set() or key in self._queued:
                return
            self._queued.add(key)
            if key not in self._running:
                self._threads.submit(self._index, name, store_id)

    def _index(self, name: str, store_id: str) -> None:
        key = (name, store_id)
        with self._lock:
            shelf = self._shelves[name]
            self._running.add(key)
        try:
            while self._is_wanted(key):
                self._bring_up(shelf, store_id)
        except _Closing:
            with self._lock:
                self._running.discard(key)
        except Exception:
            with self._lock:
                self._running.discard(key)
            # What fails since everything ends is taken up at the next start.
            if not self._closing.is_set():
                _log.exception("a store could not be indexed")
                fail_waiting(shelf.catalog, store_id)

    def _is_wanted(self, key: tuple[str, str]) -> bool:
        with self._lock:
            if key in self._queued:
                self._queued.discard(key)
                return True
            self._running.discard(key)
            return False

    def _bring_up(self, shelf: Shelf, store_id: str) -> None:
        path = shelf.index_path(store_id)
        while True:
            done = index_round(shelf.catalog, store_id, path, self._embedder, self._check)
            shelf.forget_open(store_id)
            if done is None or done.is_last:
                return

    def _check(self) -> None:
        if self._closing.is_set():
            raise _Closing
