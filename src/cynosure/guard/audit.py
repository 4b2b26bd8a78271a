"""Append one sealed record for each request, durably. Knows nothing of requests' content.

Threads that append at the same time share one write and one sync. The head is written after the log is
synced, so that a log may be longer than its head says, and is shorter only where somebody cut it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from cynosure.core.errors import AuditFault, AuditInUse
from cynosure.guard.audit_chain import Head, Sealer
from cynosure.guard.audit_tail import find_tail

_MODE = 0o600


class Outcome(StrEnum):
    """The one terminal event of a request."""

    FINISHED = "finished"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class AuditRecord:
    """What is kept of a request: no word of what was asked or answered.

    `principal` names the API key, and is not the key; `tenant` is what the server derived from it, and
    `end_user` from the name of a person that the request gave; `endpoint` is the pattern that answered, and
    not what was sent; `guard` counts findings by direction and kind; `error` is the name of a class of our
    tree. `read` names what of an earlier request was given out with its texts. `duration_s` counts from the
    arrival.
    """

    request_id: str
    outcome: Outcome
    endpoint: str
    model: str = ""
    principal: str = ""
    tenant: str = ""
    end_user: str = ""
    method: str = ""
    status: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish: str = ""
    duration_s: float = 0.0
    first_token_s: float | None = None
    guard: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    error: str = ""
    read: str = ""


@dataclass(frozen=True)
class AuditSettings:
    """How a log is kept.

    `sync_every_s` 0 syncs each group of records before their requests are told; more risks the records
    of that many seconds at a power cut. `max_bytes` is where a file is put aside and the next one begun.
    """

    sync_every_s: float = 0.0
    max_bytes: int = 64 * 2**20


class _Waiting:
    """Records that wait to be written, together."""

    def __init__(self, records: Sequence[str]) -> None:
        self.records = records
        self.seq = 0
        self.fault: OSError | None = None
        self.is_settled = False


@dataclass(frozen=True)
class AuditBegun:
    """That an answer is being sent whose request has not ended: its record follows, unless we die first."""

    request_id: str
    endpoint: str
    principal: str = ""
    tenant: str = ""


class AuditLog:
    """An append-only file of JSON lines in a keyed chain; one process writes to it, from any thread.

    `path` holds the current lines, `path.<number>` the ones before, `path.head` how far the chain reached.
    A line that a crash tore is cut off when the log is opened, and a record says so.

    Raises:
        AuditFault: The log was cut or edited, belongs to another key or process, or cannot be written.
    """

    def __init__(self, path: Path, key: bytes, settings: AuditSettings | None = None) -> None:
        self._path = path
        self._head_path = path.with_name(f"{path.name}.head")
        self._sealer = Sealer(key)
        self._settings = settings or AuditSettings()
        self._queue: list[_Waiting] = []
        self._turn = threading.Condition()
        self._is_committing = False
        self._synced_at = 0.0
        self._is_closed = self._is_spoiled = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_file = self._take_lock()
            self._open()
        except OSError as fault:
            raise _cannot_write(path, fault) from fault

    def append(self, *records: AuditRecord | AuditBegun) -> int:
        """Write records; return the number of the last once they are as durable as the settings ask.

        Raises:
            AuditFault: They could not be written; the log is as it was before.
        """
        return self._append([_event_of(record) for record in records])

    def close(self) -> None:
        """Sync what is written, and let another process open the log."""
        with self._turn:
            self._turn.wait_for(lambda: not self._is_committing)
            if self._is_closed:
                return
            self._is_closed = True
        try:
            self._sync()
        except OSError as fault:
            raise _cannot_write(self._path, fault) from fault
        finally:
            os.close(self._file)
            os.close(self._lock_file)

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, events: Sequence[Mapping[str, object]]) -> int:
        assert events, "there is something to write"
        waiting = _Waiting([json.dumps(event, separators=(",", ":")) for event in events])
        group: list[_Waiting] = []
        with self._turn:
            self._queue.append(waiting)
            self._turn.wait_for(lambda: waiting.is_settled or not self._is_committing)
            if not waiting.is_settled:
                # Nobody is writing: this thread writes for all that wait, and more queue up meanwhile.
                group, self._queue, self._is_committing = self._queue, [], True
        if group:
            self._commit(group)
        if waiting.fault:
            raise _cannot_write(self._path, waiting.fault) from waiting.fault
        return waiting.seq

    def _commit(self, group: list[_Waiting]) -> None:
        fault: OSError | None = OSError("its writer failed")
        try:
            if self._is_closed or self._is_spoiled:
                raise OSError("it is closed" if self._is_closed else "a failed write could not be taken back")
            self._write(group)
            fault = None
        except OSError as met:
            fault = met
        finally:
            with self._turn:
                for waiting in group:
                    waiting.fault, waiting.is_settled = fault, True
                self._is_committing = False
                self._turn.notify_all()

    def _write(self, group: list[_Waiting]) -> None:
        if self._size >= self._settings.max_bytes:
            self._rotate()
        elif self._was_moved():
            self._sync()
            self._begin_file()
        link, lines = self._link, []
        for waiting in group:
            for record in waiting.records:
                line, link = self._sealer.seal(link, record)
                lines.append(line)
            waiting.seq = link.seq
        before, size = self._link, self._size
        try:
            _write_all(self._file, b"".join(lines))
            self._link, self._size = link, size + sum(map(len, lines))
            if time.monotonic() - self._synced_at >= self._settings.sync_every_s:
                self._sync()
        except OSError:
            # Half a group must not stand in the chain; if it can't be taken back, nothing may follow it.
            self._link, self._size, self._is_spoiled = before, size, True
            os.ftruncate(self._file, size)
            self._is_spoiled = False
            raise

    def _sync(self) -> None:
        os.fdatasync(self._file)
        self._write_head(Head(self._link, self._size))
        self._synced_at = time.monotonic()

    def _write_head(self, head: Head) -> None:
        scratch = self._head_path.with_name(f"{self._head_path.name}.part")
        made = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            _write_all(made, self._sealer.write_head(head))
            os.fsync(made)
        finally:
            os.close(made)
        scratch.replace(self._head_path)

    def _rotate(self) -> None:
        self._sync()
        if not self._was_moved():
            self._path.rename(self._path.with_name(f"{self._path.name}.{self._link.seq:012d}"))
        self._begin_file()

    def _was_moved(self) -> bool:
        """Whether a tool that rotates logs took the file away under us."""
        try:
            there, ours = os.stat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _begin_file(self) -> None:
        """Go on in a new file; the head says so before the first line stands in it."""
        opened = _open_log(self._path)
        os.close(self._file)
        self._file = opened
        self._size = os.fstat(self._file).st_size
        self._write_head(Head(self._link, self._size))

    def _take_lock(self) -> int:
        lock = os.open(
            self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(lock)
            raise AuditInUse(
                f"audit log {self._path} is being written by another process; two would fork its chain. "
                f"Stop that one, or name another log (--audit FOLDER)."
            ) from fault
        return lock

    def _open(self) -> None:
        self._file = _open_log(self._path)
        try:
            tail = find_tail(self._path, self._head_path, self._sealer)
        except BaseException:
            os.close(self._file)
            os.close(self._lock_file)
            raise
        self._link, self._size = tail.link, tail.size
        if tail.torn:
            os.ftruncate(self._file, self._size)
        self._sync()
        if tail.torn:
            repair = {"event": "repair", "dropped_bytes": tail.torn, "dropped_sha256": tail.torn_sha256}
            self._append([repair])


def _event_of(record: AuditRecord | AuditBegun) -> Mapping[str, object]:
    if isinstance(record, AuditBegun):
        return {"event": "begun", **vars(record)}
    guard = {direction: dict(counts) for direction, counts in record.guard.items()}
    event = {"event": "request", **vars(record), "guard": guard}
    # Hardly any request reads what another one said.
    return event if record.read else {name: value for name, value in event.items() if name != "read"}


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _cannot_write(path: Path, fault: OSError) -> AuditFault:
    return AuditFault(
        f"audit log {path} cannot be written: {fault.strerror or fault}. Nothing was recorded; free the disk "
        f"or name another log."
    )
