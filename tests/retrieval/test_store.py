"""Test that an index is written whole, and that a stale or damaged one is noticed."""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
import pytest

from cynosure.core.errors import IndexFault
from cynosure.retrieval import Documentation, Entry, Store, build_index, open_index
from cynosure.retrieval.store import Contents, write_store
from tests.retrieval.fakes import DOCUMENTATION, ENTRIES, BagOfWords


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build_index(tmp_path / "sub" / "docs.sqlite", DOCUMENTATION, BagOfWords())
    return tmp_path / "sub" / "docs.sqlite"


def test_what_was_written_is_read(path: Path) -> None:
    contents = open_index(path, DOCUMENTATION.source, BagOfWords()).contents
    assert contents.entries == ENTRIES
    texts = [passage.text(contents.entries[passage.entry].doc) for passage in contents.passages]
    np.testing.assert_allclose(contents.vectors, BagOfWords().embed(texts), atol=1e-3)
    assert [phrase.text for phrase in contents.phrases] == ["join files"]
    np.testing.assert_allclose(contents.phrase_vectors, BagOfWords().embed(["join files"]), atol=1e-3)


def test_nothing_but_the_index_is_left(path: Path) -> None:
    assert [found.name for found in path.parent.iterdir()] == ["docs.sqlite"]


def test_a_failed_write_leaves_the_old_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(connection: apsw.Connection) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("cynosure.retrieval.store._digest", fail)
    with pytest.raises(OSError, match="disk full"):
        write_store(path, Contents((), (), np.zeros((0, 4), np.float32)), "mark")
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["docs.sqlite"]


def test_absent_index(tmp_path: Path) -> None:
    with pytest.raises(IndexFault, match="no index"):
        open_index(tmp_path / "none.sqlite", "docs", BagOfWords())


@pytest.mark.parametrize(
    ("source", "embedder"),
    [
        ("other docs", BagOfWords()),
        (DOCUMENTATION.source, BagOfWords("other")),
        (DOCUMENTATION.source, BagOfWords(max_tokens=31)),
    ],
)
def test_stale_index(path: Path, source: str, embedder: BagOfWords) -> None:
    with pytest.raises(IndexFault, match="stale"):
        open_index(path, source, embedder)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE passages SET start = start + 1 WHERE id = 0",
        "UPDATE entries SET value = replace(value, 'Merge', 'Split')",
        "UPDATE meta SET value = zeroblob(length(value)) WHERE key = 'vectors'",
        "DELETE FROM passages WHERE id = 1",
        "UPDATE phrases SET entry = 0",
        "UPDATE meta SET value = zeroblob(length(value)) WHERE key = 'phrase_vectors'",
        "INSERT INTO asked(rowid, phrases) VALUES (99, 'x')",
        "DROP TABLE entries",
        "INSERT INTO words(rowid, name) VALUES (99, 'x')",
        "DELETE FROM meta WHERE key = 'digest'",
    ],
)
def test_changed_rows(path: Path, change: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(change)
    connection.close()
    with pytest.raises(IndexFault, match="damaged"):
        open_index(path, DOCUMENTATION.source, BagOfWords())


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_truncated_file(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(IndexFault, match="damaged"):
        open_index(path, DOCUMENTATION.source, BagOfWords())


def test_no_text_of_a_question_is_syntax(path: Path) -> None:
    store: Store = open_index(path, DOCUMENTATION.source, BagOfWords())
    for term in ('"', "a'b", "name:x", "NEAR", "*", "AND", "x\0y"):
        assert store.bm25([term]).shape == (len(ENTRIES),)
    assert store.bm25([]).sum() == 0
    assert store.bm25(["sorted"]).argmax() == 1


def test_progress_is_told(tmp_path: Path) -> None:
    many = tuple(Entry(f"m.f{n}", "function", "m", "()", f"Do {n}.") for n in range(600))
    told: list[tuple[int, int]] = []
    embedder = BagOfWords()
    build_index(
        tmp_path / "i", Documentation("s", many, {}), embedder, lambda done, total: told.append((done, total))
    )
    assert told == [(512, 600), (600, 600)]
    assert embedder.calls == [512, 88]
