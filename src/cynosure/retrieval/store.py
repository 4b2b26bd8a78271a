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
from cynosure.retrieval.documents import Entry, Passage, Phrase, object_places
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.text import identifier_words, summary_span

RECIPE = 2
"""Raise it whenever entries, passages, headings or fields are made in another way."""

FIELDS = ("name", "signature", "summary", "body", "parent", "reference")
"""What BM25 reads of an object, beside the phrases in which people ask for it."""

# By field, tuned on the development questions.
FIELD_WEIGHTS = (1.0, 0.0, 4.0, 2.0, 0.3, 2.0)

_TABLES = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries(id INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE passages(id INTEGER PRIMARY KEY, entry INTEGER, start INTEGER, stop INTEGER, heading TEXT);
CREATE TABLE phrases(id INTEGER PRIMARY KEY, entry INTEGER, text TEXT);
CREATE VIRTUAL TABLE words USING fts5({", ".join(FIELDS)}, content='', tokenize='porter unicode61');
CREATE VIRTUAL TABLE asked USING fts5(phrases, content='', tokenize='porter unicode61');
"""


_ROWS = (
    "SELECT value FROM meta WHERE key <> 'digest' ORDER BY key",
    "SELECT id, value FROM entries ORDER BY id",
    "SELECT id, entry, start, stop, heading FROM passages ORDER BY id",
    "SELECT id, entry, text FROM phrases ORDER BY id",
    *(
        select
        for table in ("words", "asked")
        for select in (
            f"SELECT id, block FROM {table}_data ORDER BY id",
            f"SELECT id, sz FROM {table}_docsize ORDER BY id",
            f"SELECT segid, term, pgno FROM {table}_idx ORDER BY segid, term",
        )
    ),
)


@dataclass(frozen=True, eq=False)
class Contents:
    """What an index holds: entries, their passages, a vector for each, and what its maker notes (JSON).

    Phrases lead to entries, too, and have vectors of their own.
    """

    entries: tuple[Entry, ...]
    passages: tuple[Passage, ...]
    vectors: Float32[np.ndarray, "passages dim"]
    notes: str = "{}"
    phrases: tuple[Phrase, ...] = ()
    phrase_vectors: Float32[np.ndarray, "phrases dim"] | None = None


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
    asked = contents.phrase_vectors
    connection.execute("PRAGMA journal_mode = OFF")
    with connection:
        connection.execute(_TABLES)
        connection.executemany("INSERT INTO entries VALUES (?, ?)", enumerate(entries))
        connection.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
            ((n, p.entry, p.start, p.end, p.heading) for n, p in enumerate(contents.passages)),
        )
        connection.executemany(
            "INSERT INTO phrases VALUES (?, ?, ?)",
            ((n, phrase.entry, phrase.text) for n, phrase in enumerate(contents.phrases)),
        )
        connection.executemany(
            f"INSERT INTO words(rowid, {', '.join(FIELDS)}) VALUES (?{', ?' * len(FIELDS)})",
            _fields(contents.entries),
        )
        connection.executemany("INSERT INTO asked(rowid, phrases) VALUES (?, ?)", _asked(contents.phrases))
        meta = {
            "fingerprint": mark,
            "dim": contents.vectors.shape[1],
            "vectors": _packed(contents.vectors),
            "phrase_vectors": b"" if asked is None else _packed(asked),
            "notes": contents.notes,
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        connection.execute("INSERT INTO asked(asked) VALUES ('optimize')")
    # After the transaction: FTS5 writes its tables when it is committed.
    connection.execute("INSERT INTO meta VALUES ('digest', ?)", (_digest(connection),))


def _packed(vectors: Float32[np.ndarray, "texts dim"]) -> bytes:
    return vectors.astype(np.float16).tobytes()


def _unpacked(packed: bytes, dim: int) -> Float32[np.ndarray, "texts dim"]:
    return np.frombuffer(packed, dtype=np.float16).astype(np.float32).reshape(-1, dim)


def _fields(entries: Sequence[Entry]) -> Iterator[tuple[int, str, str, str, str, str, str]]:
    """The words of each object by field; `parent` is the summary of the class or module around it."""
    places = object_places(entries)
    further: dict[int, list[str]] = {}
    summaries: dict[str, str] = {}
    for place, (entry, stands) in enumerate(zip(entries, places.tolist(), strict=True)):
        if place == stands:
            summaries[entry.name] = entry.doc[slice(*summary_span(entry.doc, entry.name))]
        else:
            further.setdefault(stands, []).append(entry.doc)
    for place in np.flatnonzero(places == np.arange(len(entries))).tolist():
        entry = entries[place]
        parent, _, short = entry.name.rpartition(".")
        names = f"{identifier_words(entry.name)} {short}"
        signature = identifier_words(entry.signature)
        reference = "\n\n".join(further.get(place, ()))
        yield place, names, signature, summaries[entry.name], entry.doc, summaries.get(parent, ""), reference


def _asked(phrases: Sequence[Phrase]) -> Iterator[tuple[int, str]]:
    """All phrases of each object together."""
    together: dict[int, list[str]] = {}
    for phrase in phrases:
        together.setdefault(phrase.entry, []).append(phrase.text)
    for entry, texts in together.items():
        yield entry, "\n".join(texts)


def _quoted(term: str) -> str:
    """A term as text to FTS5, whatever it holds; only NUL would end the string."""
    escaped = term.replace('"', '""').replace("\0", " ")
    return f'"{escaped}"'


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
        found = self._connection.execute("SELECT entry, text FROM phrases ORDER BY id")
        phrases = tuple(Phrase(*row) for row in found)
        dim = meta["dim"]
        return Contents(
            entries,
            passages,
            _unpacked(meta["vectors"], dim),
            meta["notes"],
            phrases,
            _unpacked(meta["phrase_vectors"], dim),
        )

    def bm25(
        self, terms: Sequence[str], weights: Sequence[float] = FIELD_WEIGHTS
    ) -> Float32[np.ndarray, " entries"]:
        """Okapi BM25 of each object for any of the terms, higher being better; 0 where none occurs."""
        return self._scores("words", terms, weights)

    def asked_bm25(self, terms: Sequence[str]) -> Float32[np.ndarray, " entries"]:
        """The same over the phrases in which people ask for an object."""
        return self._scores("asked", terms, (1.0,))

    def num_objects_with(self, terms: Sequence[str], most: int) -> list[int]:
        """In how many objects, by texts or phrases for them, each term occurs; counted up to `most`."""
        counts = []
        with self._lock:
            for term in map(_quoted, terms):
                found = "SELECT rowid FROM {0} WHERE {0} MATCH ?1"
                union = f"{found.format('words')} UNION {found.format('asked')} LIMIT ?2"
                counts.append(len(self._connection.execute(union, (term, most)).fetchall()))
        return counts

    def _scores(
        self, table: str, terms: Sequence[str], weights: Sequence[float]
    ) -> Float32[np.ndarray, " entries"]:
        scores = np.zeros(len(self.contents.entries), dtype=np.float32)
        if not terms:
            return scores
        match = " OR ".join(map(_quoted, terms))
        rank = f"bm25({table}, {', '.join(map(str, weights))})"
        with self._lock:
            found = self._connection.execute(
                f"SELECT rowid, {rank} FROM {table} WHERE {table} MATCH ?", (match,)
            ).fetchall()
        # SQLite's bm25() is negated, so that the best come first in ascending order.
        scored = np.array(found, dtype=np.float64).reshape(-1, 2)
        scores[scored[:, 0].astype(np.int64)] = -scored[:, 1]
        return scores

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()
