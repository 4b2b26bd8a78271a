"""Keep pages of sessions on disk, within bounds of size and age. Knows nothing of tensors or what names mean.

A session is a list of pages; two may have pages in common. The least recently used session gives way first,
and with it the pages that no other has. Writing is done beside, on a thread of this store.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from cynosure.cache.page_folder import CHECKSUM_BYTES, PageFolder
from cynosure.cache.page_names import NAME_BYTES
from cynosure.core.errors import InputError

MAX_AGE_S = 24 * 60 * 60
#: Waiting to be written; while there is so much, sessions that end are not put on disk.
MAX_PENDING_BYTES = 1 << 28
_SWEEP_S = 600.0
_PAGES, _SESSIONS = "pages", "sessions"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreStatistics:
    """What lies on disk, and what happened since the start; `num_spoilt` files failed their checksum."""

    num_sessions: int
    num_pages: int
    num_bytes: int
    num_read: int
    num_spoilt: int


@dataclass(frozen=True)
class _Kept:
    names: tuple[bytes, ...]
    used_s: float


@dataclass(frozen=True)
class _Job:
    session: bytes
    names: tuple[bytes, ...]
    contents: Mapping[bytes, bytes]


class PageStore:
    """The pages in a folder. For any thread; one process has the folder at a time."""

    def __init__(
        self, folder: Path, secret: bytes, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the folder, see what is there, and start to write.

        Raises:
            InputError: the folder holds other files, or `max_bytes` is below 1.
            EnvironmentFault: it can't be written, or another process has it.
        """
        if max_bytes < 1:
            raise InputError(f"the cache folder may have {max_bytes} bytes; the limit is 1. Raise it.")
        self._files = PageFolder(folder, secret, (_PAGES, _SESSIONS))
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._sizes: dict[bytes, int] = {}
        self._page_bytes = 0
        self._owners: dict[bytes, set[bytes]] = {}
        # The least recently used first.
        self._sessions: OrderedDict[bytes, _Kept] = OrderedDict()
        self._pending: dict[bytes, int] = {}
        self._num_read = self._num_spoilt = 0
        self._open()
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="page-store", daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> StoreStatistics:
        """What is here."""
        with self._lock:
            return StoreStatistics(
                len(self._sessions), len(self._sizes), self._num_bytes, self._num_read, self._num_spoilt
            )

    def num_known(self, names: Sequence[bytes]) -> int:
        """Return how many of these pages, from the first on, are on disk."""
        with self._lock:
            self._expire()
            return sum(1 for _ in takewhile(self._sizes.__contains__, names))

    def read(self, name: bytes, sizes: Collection[int]) -> bytes | None:
        """Return a page, which has one of these sizes; `None` where it is not here, or not whole any more."""
        with self._lock:
            if name not in self._sizes:
                return None
        content = self._files.read(_PAGES, name)
        with self._lock:
            if content is not None and len(content) in sizes:
                self._num_read += 1
                return content
            self._num_spoilt += 1
            self._remove_page(name)
        _log.warning("a page in the cache folder was not whole, and is removed")
        return None

    def used(self, name: bytes) -> None:
        """Note that whoever has this page was used now."""
        now = self._clock()
        with self._lock:
            for session in self._owners.get(name, ()):
                self._sessions[session] = _Kept(self._sessions[session].names, now)
                self._sessions.move_to_end(session)
                self._files.touch(_SESSIONS, session, now)

    def missing(self, names: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return those that `keep` needs the contents of."""
        with self._lock:
            return tuple(name for name in names if name not in self._sizes and name not in self._pending)

    def keep(self, session: bytes, names: Sequence[bytes], contents: Mapping[bytes, bytes]) -> bool:
        """Have a session be these pages from soon on; `contents` are those of `missing`.

        `False`, and nothing changes, where too much waits to be written already.
        """
        with self._lock:
            if sum(self._pending.values()) + sum(map(len, contents.values())) > MAX_PENDING_BYTES:
                return False
            self._pending.update({name: len(content) for name, content in contents.items()})
        self._jobs.put(_Job(session, tuple(names), contents))
        return True

    def flush(self) -> None:
        """Wait until all that is kept so far is on disk."""
        self._jobs.join()

    def close(self) -> None:
        """Write what waits, and let another process have the folder."""
        self._jobs.put(None)
        self._thread.join()
        self._files.close()

    @property
    def _num_bytes(self) -> int:
        lists = sum(len(kept.names) * NAME_BYTES + CHECKSUM_BYTES for kept in self._sessions.values())
        return self._page_bytes + lists

    def _open(self) -> None:
        """See what an earlier process left: whole sessions, as far as their pages are there."""
        sizes = {name: found.st_size for name, found in self._files.names(_PAGES) if len(name) == NAME_BYTES}
        now = self._clock()
        for session, found in sorted(self._files.names(_SESSIONS), key=lambda one: one[1].st_mtime):
            content = self._files.read(_SESSIONS, session)
            if content is None:
                self._num_spoilt += 1
                continue
            listed = [content[at : at + NAME_BYTES] for at in range(0, len(content), NAME_BYTES)]
            names = tuple(takewhile(sizes.__contains__, listed))
            for name in names:
                self._add_page(name, sizes[name])
            self._own(session, names, min(found.st_mtime, now))
        for name in sizes.keys() - self._sizes.keys():
            self._files.remove(_PAGES, name)
        self._expire()
        self._make_room(0)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_SWEEP_S)
            except queue.Empty:
                with self._lock:
                    self._expire()
                continue
            try:
                if job is None:
                    return
                self._write(job)
            except Exception:
                _log.exception("a session could not be put on disk")
            finally:
                self._jobs.task_done()

    def _write(self, job: _Job) -> None:
        """Put a session's pages, then its list; what dies in between, `_open` cleans up."""
        with self._lock:
            self._expire()
            names = self._settle(job)
            if not names:
                self._files.remove(_SESSIONS, job.session)
            fresh = [name for name in names if name not in self._sizes]
            self._make_room(sum(len(job.contents[name]) + CHECKSUM_BYTES for name in fresh), job.session)
        try:
            for name in fresh:
                self._files.write(_PAGES, name, job.contents[name])
                with self._lock:
                    self._add_page(name, len(job.contents[name]) + CHECKSUM_BYTES)
            if names:
                self._files.write(_SESSIONS, job.session, b"".join(names))
                self._files.touch(_SESSIONS, job.session, self._clock())
        except OSError as fault:
            _log.warning("a session could not be put on disk: %s", fault.strerror)
            with self._lock:
                self._drop(job.session)
        finally:
            with self._lock:
                for name in job.contents:
                    self._pending.pop(name, None)

    def _settle(self, job: _Job) -> tuple[bytes, ...]:
        """Make a session the newest, of the pages that can be had; they stay while others give way."""
        self._disown(job.session, kept=frozenset(job.names))
        names: list[bytes] = []
        num_bytes = CHECKSUM_BYTES
        for name in job.names:
            size = self._sizes.get(name) or len(job.contents.get(name, b"")) + CHECKSUM_BYTES
            num_bytes += size + NAME_BYTES
            # A page that gave way meanwhile, or that there is no room for: the rest is of no use without it.
            if size == CHECKSUM_BYTES or num_bytes > self._max_bytes:
                break
            names.append(name)
        self._own(job.session, tuple(names), self._clock())
        for name in job.names[len(names) :]:
            if not self._owners.get(name):
                self._remove_page(name)
        return tuple(names)

    def _make_room(self, num_bytes: int, newest: bytes | None = None) -> None:
        while self._num_bytes + num_bytes > self._max_bytes:
            oldest = next(iter(self._sessions), None)
            if oldest is None or oldest == newest:
                return
            self._drop(oldest)

    def _expire(self) -> None:
        oldest_s = self._clock() - MAX_AGE_S
        for session in [
            session for session, _ in takewhile(lambda one: one[1].used_s < oldest_s, self._sessions.items())
        ]:
            self._drop(session)

    def _drop(self, session: bytes) -> None:
        """Forget a session, and the pages that only it has."""
        self._disown(session)
        self._files.remove(_SESSIONS, session)

    def _own(self, session: bytes, names: tuple[bytes, ...], used_s: float) -> None:
        if names:
            self._sessions[session] = _Kept(names, used_s)
        for name in names:
            self._owners.setdefault(name, set()).add(session)

    def _disown(self, session: bytes, kept: frozenset[bytes] = frozenset()) -> None:
        """Take a session's pages from it; those that nobody has now go, save the ones that are `kept`."""
        gone = self._sessions.pop(session, None)
        for name in () if gone is None else gone.names:
            owners = self._owners.get(name, set())
            owners.discard(session)
            if not owners and name not in kept:
                self._remove_page(name)

    def _add_page(self, name: bytes, size: int) -> None:
        self._page_bytes += size - self._sizes.get(name, 0)
        self._sizes[name] = size

    def _remove_page(self, name: bytes) -> None:
        self._page_bytes -= self._sizes.pop(name, 0)
        self._owners.pop(name, None)
        self._files.remove(_PAGES, name)
