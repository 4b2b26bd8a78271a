"""Keep entries, passages, words and vectors in one SQLite file. Knows nothing of scores or questions.

The file is written aside and renamed, so a reader meets a whole index or none. It carries a fingerprint of
all that shaped it (documentation, embedder, recipe) and a digest of all that it holds: what is stale or
damaged is an `IndexFault`, and the remedy is to build it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import IndexFault
from cynosure.retrieval.documents import Entry, Passage
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.text import identifier_words, summary_span

RECIPE = 1
"""Raise it whenever entries, passages, headings or fields are made in another way."""

# Field weights of BM25, tuned on the development questions: name, signature, summary, body, parent.
FIELD_WEIGHTS = (1.0, 0.0, 4.0, 2.0, 0.3)

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries(id INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE passages(id INTEGER PRIMARY KEY, entry INTEGER, start INTEGER, stop INTEGER, heading TEXT);
CREATE VIRTUAL TABLE words USING fts5(
    name, signature, summary, body, parent, content='', tokenize='porter unicode61'
);
"""


_ROWS = (
    "SELECT value FROM meta WHERE key <> 'digest' ORDER BY key",
    "SELECT id, value FROM entries ORDER BY id",
    "SELECT id, entry, start, stop, heading FROM passages ORDER BY id",
    "SELECT id, block FROM words_data ORDER BY id",
    "SELECT id, sz FROM words_docsize ORDER BY id",
    "SELECT segid, term, pgno FROM words_idx ORDER BY segid, term",
)


@dataclass(frozen=True, eq=False)
class Contents:
    """What an index holds: entries, their passages, a vector for each, and what its maker notes (JSON)."""

    entries: tuple[Entry, ...]
    passages: tuple[Passage, ...]
    vectors: Float32[np.ndarray, "passages dim"]
    notes: str = "{}"


def fingerprint(source: str, embedder: Embedder) -> str:
    """Name all that shapes an index of `source` made with `embedder`."""
    parts = [RECIPE, source, embedder.model_id, embedder.dim, embedder.max_tokens]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_store(path: Path, contents: Contents, mark: str) -> None:
    """Write an index, whole or not at all.

    Args:
        path: Where; an index that is there already is replaced.
        contents: Entries, passages and vectors.
        mark: The fingerprint.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    scratch.unlink(missing_ok=True)
    try:
        connection = apsw.Connection(str(scratch))
        try:
            _fill(connection, contents, mark)
        finally:
            connection.close()
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _fill(connection: apsw.Connection, contents: Contents, mark: str) -> None:
    entries = [json.dumps(vars(entry)) for entry in contents.entries]
    half = contents.vectors.astype(np.float16).tobytes()
    connection.execute("PRAGMA journal_mode = OFF")
    with connection:
        connection.execute(_TABLES)
        connection.executemany("INSERT INTO entries VALUES (?, ?)", enumerate(entries))
        connection.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
            ((n, p.entry, p.start, p.end, p.heading) for n, p in enumerate(contents.passages)),
        )
        connection.executemany(
            "INSERT INTO words(rowid, name, signature, summary, body, parent) VALUES (?, ?, ?, ?, ?, ?)",
            _fields(contents.entries),
        )
        meta = {
            "fingerprint": mark,
            "dim": contents.vectors.shape[1],
            "vectors": half,
            "notes": contents.notes,
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("INSERT INTO words(words) VALUES ('optimize')")
    # After the transaction: FTS5 writes its tables when it is committed.
    connection.execute("INSERT INTO meta VALUES ('digest', ?)", (_digest(connection),))


def _fields(entries: Sequence[Entry]) -> Iterator[tuple[int, str, str, str, str, str]]:
    """The words of each entry by field; `parent` is the summary of the class or module around it."""
    summaries = {entry.name: entry.doc[slice(*summary_span(entry.doc, entry.name))] for entry in entries}
    for place, entry in enumerate(entries):
        parent, _, short = entry.name.rpartition(".")
        names = f"{identifier_words(entry.name)} {short}"
        signature = identifier_words(entry.signature)
        yield place, names, signature, summaries[entry.name], entry.doc, summaries.get(parent, "")


def _digest(connection: apsw.Connection) -> str:
    """Hash every row that the index reads, the tables behind the words included."""
    whole = hashlib.sha256()
    for rows in _ROWS:
        for row in connection.execute(rows):
            for value in row:
                whole.update(value if isinstance(value, bytes) else f"{value}\n".encode())
    return whole.hexdigest()


class Store:
    """An index on disk, opened to read. Safe to use from several threads."""

    def __init__(self, path: Path, mark: str) -> None:
        """Open and check.

        Raises:
            IndexFault: There is no index at `path`, or it is not `mark`'s, or it is damaged.
        """
        if not path.is_file():
            raise IndexFault(f"there is no index at {path}. Build it.")
        self._lock = threading.Lock()
        self.num_bytes = path.stat().st_size
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self.contents = self._read(path, mark)
        except (apsw.Error, ValueError, TypeError, KeyError) as fault:
            raise IndexFault(f"the index at {path} is damaged ({fault}). Build it again.") from fault

    def _read(self, path: Path, mark: str) -> Contents:
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        if meta["fingerprint"] != mark:
            raise IndexFault(
                f"the index at {path} is stale: made for another Python, embedder or recipe "
                f"({meta['fingerprint'][:12]}, not {mark[:12]}). Build it again."
            )
        texts = [text for (text,) in self._connection.execute("SELECT value FROM entries ORDER BY id")]
        rows = self._connection.execute("SELECT entry, start, stop, heading FROM passages ORDER BY id")
        passages = tuple(Passage(*row) for row in rows)
        if _digest(self._connection) != meta["digest"]:
            raise IndexFault(f"the index at {path} is damaged (its digest differs). Build it again.")
        entries = tuple(Entry.from_json(json.loads(text)) for text in texts)
        vectors = np.frombuffer(meta["vectors"], dtype=np.float16).astype(np.float32)
        # An index from before notes were kept has none.
        notes = meta.get("notes", "{}")
        return Contents(entries, passages, vectors.reshape(len(passages), meta["dim"]), notes)

    def bm25(
        self, terms: Sequence[str], weights: Sequence[float] = FIELD_WEIGHTS
    ) -> Float32[np.ndarray, " entries"]:
        """Okapi BM25 of each entry for any of the terms, higher being better; 0 where none occurs."""
        scores = np.zeros(len(self.contents.entries), dtype=np.float32)
        if not terms:
            return scores
        # Quoted terms are text to FTS5, whatever they hold; only NUL would end the string.
        quoted = (term.replace('"', '""').replace("\0", " ") for term in terms)
        match = " OR ".join(f'"{term}"' for term in quoted)
        call = f"SELECT rowid, bm25(words, {', '.join(map(str, weights))}) FROM words WHERE words MATCH ?"
        with self._lock:
            found = self._connection.execute(call, (match,)).fetchall()
        # SQLite's bm25() is negated, so that the best come first in ascending order.
        table = np.array(found, dtype=np.float64).reshape(-1, 2)
        scores[table[:, 0].astype(np.int64)] = -table[:, 1]
        return scores

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()
