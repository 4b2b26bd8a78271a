"""Keep files, stores and what is in them in one SQLite file. Knows nothing of indexes or questions.

Each change is one transaction, so that a kill leaves all of it or nothing. What is deleted is overwritten,
and its pages are given back.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from cynosure.core.errors import InputError, InputTooLong, NotFound
from cynosure.retrieval.library.records import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    Attribute,
    Batch,
    Counts,
    Fault,
    KeptFile,
    KeptStore,
    LibraryLimits,
    Placement,
    Shelved,
)

_TABLES = """
CREATE TABLE IF NOT EXISTS files(
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, filename TEXT, purpose TEXT, num_bytes INTEGER,
    created_at INTEGER);
CREATE TABLE IF NOT EXISTS contents(id TEXT PRIMARY KEY, content BLOB);
CREATE TABLE IF NOT EXISTS stores(
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, name TEXT, description TEXT, metadata TEXT,
    created_at INTEGER, active_at INTEGER, version INTEGER DEFAULT 0, indexed INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS batches(id TEXT PRIMARY KEY, store TEXT, created_at INTEGER);
CREATE TABLE IF NOT EXISTS shelved(
    number INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT, file TEXT, state TEXT, attributes TEXT,
    code TEXT, message TEXT, num_bytes INTEGER, batch TEXT, created_at INTEGER, UNIQUE(store, file));
"""
_FILE = "SELECT id, filename, purpose, num_bytes, created_at FROM files"
_STORE = "SELECT id, name, description, metadata, created_at, active_at FROM stores"
_SHELVED = """
SELECT shelved.file, store, filename, shelved.number, state, shelved.created_at, attributes, code, message,
    shelved.num_bytes, batch
FROM shelved JOIN files ON files.id = shelved.file
"""

Clock = Callable[[], float]


class Catalog:
    """What one tenant keeps. Safe to use from several threads."""

    def __init__(self, path: Path, limits: LibraryLimits, clock: Clock) -> None:
        """Open the file, or make it."""
        self._limits = limits
        self._clock = clock
        self._lock = threading.RLock()
        self._connection = apsw.Connection(str(path))
        self._run("PRAGMA secure_delete = ON")
        self._run("PRAGMA auto_vacuum = FULL")
        self._run(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def add_file(self, filename: str, purpose: str, content: bytes) -> KeptFile:
        """Keep a file.

        Raises:
            InputTooLong: it is too large, or too much would be kept.
        """
        limits = self._limits
        if len(content) > limits.max_file_bytes:
            raise InputTooLong(
                f"{filename} has {len(content)} bytes; the limit is {limits.max_file_bytes}. Split it."
            )
        file = KeptFile(_new_id("file-"), filename, purpose, len(content), self._now())
        with self._lock, self._connection:
            [(count, size)] = self._run("SELECT count(*), coalesce(sum(num_bytes), 0) FROM files")
            if count >= limits.max_files:
                raise InputTooLong(f"{count} files are kept, which is the limit. Delete some.")
            if size + len(content) > limits.max_bytes:
                raise InputTooLong(
                    f"{size} bytes are kept, and this file has {len(content)}; the limit is "
                    f"{limits.max_bytes} bytes. Delete some files."
                )
            self._run(
                "INSERT INTO files(id, filename, purpose, num_bytes, created_at) VALUES (?, ?, ?, ?, ?)",
                (file.id, filename, purpose, file.num_bytes, file.created_at),
            )
            self._run("INSERT INTO contents VALUES (?, ?)", (file.id, content))
        return file

    def files(self) -> list[KeptFile]:
        """All files, the oldest first."""
        return [KeptFile(*row) for row in self._run(f"{_FILE} ORDER BY number")]

    def file(self, file_id: str) -> KeptFile:
        """One file; raises `NotFound`."""
        for row in self._run(f"{_FILE} WHERE id = ?", (file_id,)):
            return KeptFile(*row)
        raise NotFound(f"no file {file_id[:100]!r} is kept here. /v1/files lists them.")

    def content(self, file_id: str) -> bytes:
        """A file's bytes; raises `NotFound`."""
        with self._lock:
            self.file(file_id)
            [(content,)] = self._run("SELECT content FROM contents WHERE id = ?", (file_id,))
        return content

    def remove_file(self, file_id: str) -> list[str]:
        """Forget a file and take it out of all stores, whose ids are given; raises `NotFound`."""
        stores: list[str] = []
        with self._lock, self._connection:
            self.file(file_id)
            stores += [
                store for (store,) in self._run("SELECT store FROM shelved WHERE file = ?", (file_id,))
            ]
            self._run("DELETE FROM shelved WHERE file = ?", (file_id,))
            self._run("DELETE FROM contents WHERE id = ?", (file_id,))
            self._run("DELETE FROM files WHERE id = ?", (file_id,))
            for store in stores:
                self._touch(store)
        return stores

    def add_store(
        self,
        name: str,
        description: str,
        metadata: Mapping[str, str],
        placements: Sequence[Placement] = (),
    ) -> str:
        """Make a store with files in it, or none, and give its id.

        Raises:
            InputTooLong: there are too many stores.
            NotFound: there is no such file; then there is no store either.
        """
        store_id, now = _new_id("vs_"), self._now()
        with self._lock, self._connection:
            [(count,)] = self._run("SELECT count(*) FROM stores")
            if count >= self._limits.max_stores:
                raise InputTooLong(f"there are {count} vector stores, which is the limit. Delete some.")
            self._run(
                "INSERT INTO stores(id, name, description, metadata, created_at, active_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (store_id, name, description, json.dumps(dict(metadata)), now, now),
            )
            if placements:
                self.put(store_id, placements)
        return store_id

    def stores(self) -> list[KeptStore]:
        """All stores, the oldest first."""
        with self._lock:
            return [self._store(row) for row in self._run(f"{_STORE} ORDER BY number")]

    def store(self, store_id: str) -> KeptStore:
        """One store; raises `NotFound`."""
        with self._lock:
            for row in self._run(f"{_STORE} WHERE id = ?", (store_id,)):
                return self._store(row)
        raise NotFound(f"no vector store {store_id[:100]!r} is kept here. /v1/vector_stores lists them.")

    def change_store(self, store_id: str, name: str | None, metadata: Mapping[str, str] | None) -> None:
        """Change what is given; raises `NotFound`."""
        with self._lock, self._connection:
            self.store(store_id)
            if name is not None:
                self._run("UPDATE stores SET name = ? WHERE id = ?", (name, store_id))
            if metadata is not None:
                self._run(
                    "UPDATE stores SET metadata = ? WHERE id = ?", (json.dumps(dict(metadata)), store_id)
                )
            self._run("UPDATE stores SET active_at = ? WHERE id = ?", (self._now(), store_id))

    def remove_store(self, store_id: str) -> None:
        """Forget a store; its files stay; raises `NotFound`."""
        with self._lock, self._connection:
            self.store(store_id)
            self._run("DELETE FROM shelved WHERE store = ?", (store_id,))
            self._run("DELETE FROM batches WHERE store = ?", (store_id,))
            self._run("DELETE FROM stores WHERE id = ?", (store_id,))

    def put(self, store_id: str, placements: Sequence[Placement], *, is_batch: bool = False) -> str:
        """Put files into a store, all or none; one that is there already is read again.

        Returns:
            The batch's id, or nothing where it is none.

        Raises:
            NotFound: there is no such store or file.
            InputError: one file is named twice.
        """
        twice = len({one.file_id for one in placements}) < len(placements)
        if twice:
            raise InputError("a file is named twice. Name each once.")
        batch, now = _new_id("vsfb_") if is_batch else "", self._now()
        with self._lock, self._connection:
            self.store(store_id)
            for one in placements:
                self.file(one.file_id)
                self._run(
                    "INSERT OR REPLACE INTO shelved(store, file, state, attributes, num_bytes, batch, "
                    "created_at) VALUES (?, ?, ?, ?, 0, ?, ?)",
                    (store_id, one.file_id, IN_PROGRESS, json.dumps(dict(one.attributes)), batch, now),
                )
            if is_batch:
                self._run("INSERT INTO batches VALUES (?, ?, ?)", (batch, store_id, now))
            self._touch(store_id)
        return batch

    def shelved(self, store_id: str, batch: str | None = None) -> list[Shelved]:
        """The files of a store, or those of one batch, in the order in which they were put there."""
        with self._lock:
            self.store(store_id)
            rows = self._run(f"{_SHELVED} WHERE store = ? ORDER BY shelved.number", (store_id,))
        return [one for row in rows if (one := _shelved(row)).batch == batch or batch is None]

    def one_shelved(self, store_id: str, file_id: str) -> Shelved:
        """One file of a store; raises `NotFound`."""
        with self._lock:
            self.store(store_id)
            for row in self._run(f"{_SHELVED} WHERE store = ? AND file = ?", (store_id, file_id)):
                return _shelved(row)
        raise NotFound(f"vector store {store_id} holds no file {file_id[:100]!r}. Its /files lists them.")

    def batch(self, store_id: str, batch_id: str) -> Batch:
        """One batch, counted over what is still in the store; raises `NotFound`."""
        with self._lock:
            self.store(store_id)
            found = self._run(
                "SELECT created_at FROM batches WHERE id = ? AND store = ?", (batch_id, store_id)
            )
            for (created_at,) in found:
                return Batch(
                    batch_id,
                    store_id,
                    created_at,
                    _counts([one.state for one in self.shelved(store_id, batch_id)]),
                )
        raise NotFound(f"vector store {store_id} has no batch {batch_id[:100]!r}. Correct the id.")

    def describe(self, store_id: str, file_id: str, attributes: Mapping[str, Attribute]) -> None:
        """Say other things of a file in a store; raises `NotFound`."""
        with self._lock, self._connection:
            self.one_shelved(store_id, file_id)
            self._run(
                "UPDATE shelved SET attributes = ? WHERE store = ? AND file = ?",
                (json.dumps(dict(attributes)), store_id, file_id),
            )

    def take_out(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store; raises `NotFound`."""
        with self._lock, self._connection:
            self.one_shelved(store_id, file_id)
            self._run("DELETE FROM shelved WHERE store = ? AND file = ?", (store_id, file_id))
            self._touch(store_id)

    def version(self, store_id: str) -> int | None:
        """Changes with each change of what a store holds; None where there is none."""
        for (version,) in self._run("SELECT version FROM stores WHERE id = ?", (store_id,)):
            return version
        return None

    def stale(self) -> list[str]:
        """Stores that were changed since their index was written."""
        return [store for (store,) in self._run("SELECT id FROM stores WHERE version > indexed")]

    def fail(self, one: Shelved, fault: Fault) -> None:
        """Note why a file can't be found; nothing happens if it was taken out, or put there anew."""
        self._run(
            "UPDATE shelved SET state = ?, code = ?, message = ? WHERE number = ?",
            (FAILED, fault.code, fault.message, one.number),
        )

    def settle(self, store_id: str, version: int, made: Mapping[int, int]) -> bool:
        """Note that an index is written, of a version, and the bytes of each file that is new, by number.

        Returns:
            Whether the store is still there.
        """
        with self._lock, self._connection:
            if self.version(store_id) is None:
                return False
            for number, size in made.items():
                self._run(
                    "UPDATE shelved SET state = ?, num_bytes = ? WHERE number = ?", (COMPLETED, size, number)
                )
            self._run("UPDATE stores SET indexed = ? WHERE id = ?", (version, store_id))
        return True

    def again(self, store_id: str) -> None:
        """Have everything in a store read anew, since its index can't be used."""
        with self._lock, self._connection:
            self._run(
                "UPDATE shelved SET state = ? WHERE store = ? AND state = ?",
                (IN_PROGRESS, store_id, COMPLETED),
            )
            self._touch(store_id)

    def _touch(self, store_id: str) -> None:
        self._run(
            "UPDATE stores SET version = version + 1, active_at = ? WHERE id = ?", (self._now(), store_id)
        )

    def _store(self, row: tuple[Any, ...]) -> KeptStore:
        store_id, name, description, metadata, created_at, active_at = row
        files = self._run("SELECT state, num_bytes FROM shelved WHERE store = ?", (store_id,))
        counts = _counts([state for state, _ in files])
        size = sum(size for _, size in files)
        return KeptStore(
            store_id, name, description, json.loads(metadata), created_at, active_at, size, counts
        )

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def _now(self) -> int:
        return int(self._clock())


def _shelved(row: tuple[Any, ...]) -> Shelved:
    file_id, store_id, filename, number, state, created_at, attributes, code, message, size, batch = row
    fault = None if code is None else Fault(code, message)
    said = json.loads(attributes)
    return Shelved(file_id, store_id, filename, number, state, created_at, said, fault, size, batch)


def _counts(states: Sequence[str]) -> Counts:
    return Counts(*(states.count(state) for state in (IN_PROGRESS, COMPLETED, FAILED)))


def _new_id(prefix: str) -> str:
    # Nobody can guess one, though another tenant's would be a 404 all the same.
    return f"{prefix}{secrets.token_hex(16)}"
