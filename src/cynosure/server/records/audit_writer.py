"""Write audit records beside the event loop, many in one sync. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from cynosure.core.errors import AuditFault
from cynosure.guard import AuditBegun, AuditLog, AuditRecord

#: Records in one write at most, so that nobody waits for a file that never ends.
MAX_GROUP = 512

_Record = AuditRecord | AuditBegun


class AuditWriter:
    """The log behind one thread; what comes while it writes goes into the next write together."""

    def __init__(self, log: AuditLog) -> None:
        """Take over a log that is open."""
        self._log = log
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._lock = threading.Lock()
        self._queue: deque[tuple[_Record, Future[None]]] = deque()
        self._is_writing = False
        self._is_broken = False

    @property
    def is_broken(self) -> bool:
        """Whether the last write failed; nothing may be served before one succeeds."""
        return self._is_broken

    async def write(self, record: _Record) -> None:
        """Return once a record is as durable as the log asks; it is written though its caller leaves.

        Raises:
            AuditFault: it could not be written.
        """
        written: Future[None] = Future()
        with self._lock:
            self._queue.append((record, written))
            begins, self._is_writing = not self._is_writing, True
        if begins:
            self._pool.submit(self._drain)
        await asyncio.shield(asyncio.wrap_future(written))

    def close(self) -> None:
        """Write what waits, and close the log."""
        self._pool.shutdown(wait=True)
        self._log.close()

    def _drain(self) -> None:
        while True:
            with self._lock:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
                if not group:
                    self._is_writing = False
                    return
            try:
                self._log.append(*(record for record, _ in group))
            except AuditFault as fault:
                self._is_broken = True
                for _, written in group:
                    written.set_exception(fault)
            else:
                self._is_broken = False
                for _, written in group:
                    written.set_result(None)
