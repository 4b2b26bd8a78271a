from __future__ import annotations

import asyncio
import heapq
import inspect
from pathlib import Path

import pytest

from cynosure.cli.python_docs import (
    LINE,
    PythonDocs,
    ThreadedDocs,
    build_python_docs,
    chance,
    index_path,
    open_python_docs,
)
from cynosure.core.errors import EmptyInput, EnvironmentFault, IndexFault, InputTooLong
from cynosure.models.embedder import Embedder
from cynosure.retrieval import Documentation

MERGE = "how do I merge sorted iterables"


def _refuse(stage: str, done: int, total: int) -> None:
    raise IndexFault(f"nothing should be built, but: {stage}")


@pytest.fixture(scope="module")
def docs(index_folder: Path, embedder: Embedder) -> PythonDocs:
    return open_python_docs(index_path(index_folder), embedder, _refuse)


def test_an_answer_quotes_a_docstring_at_its_place(docs: PythonDocs) -> None:
    answer = docs.ask(MERGE, 3)
    assert answer.answered
    assert answer.reason == ""
    first = answer.quotes[0]
    assert (first.object, first.kind) == ("heapq.merge", "function")
    assert first.signature == str(inspect.signature(heapq.merge))
    assert heapq.merge.__doc__ is not None
    assert first.text == heapq.merge.__doc__[first.start : first.end]
    assert answer.confidence == pytest.approx(first.score, abs=1e-4)
    assert answer.confidence >= answer.threshold == LINE
    assert set(answer.timings_ms) == {"embed", "rank", "evidence"}
    scores = [quote.score for quote in answer.quotes]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_what_was_attended_to_lies_in_the_quote_word_by_word(docs: PythonDocs) -> None:
    for quote in docs.ask(MERGE, 3).quotes:
        words = [quote.text[at.start : at.end] for at in quote.attended]
        assert words
        assert all(word == word.strip() and word for word in words)
        assert max(at.weight for at in quote.attended) == 1.0
        edges = [edge for at in quote.attended for edge in (at.start, at.end)]
        assert edges == sorted(edges)
        assert edges[-1] <= len(quote.text)


def test_nothing_fits_says_how_far_the_best_was(docs: PythonDocs) -> None:
    answer = docs.ask("which sourdough flour rises best", 3)
    assert not answer.answered
    assert answer.quotes == ()
    assert f"{answer.confidence:.2f}; below {LINE}" in answer.reason
    assert len(docs.search("which sourdough flour rises best", 3)) == 3


def test_questions_that_can_not_be_asked(docs: PythonDocs) -> None:
    with pytest.raises(EmptyInput):
        docs.ask(" ", 3)
    with pytest.raises(InputTooLong, match="2000"):
        docs.ask("x" * 10**6, 3)


def test_the_server_asks_it_on_threads(docs: PythonDocs) -> None:
    async def ask() -> tuple[list[str], list[str]]:
        answers, quotes = await asyncio.gather(threaded.ask(MERGE, 3), threaded.search(MERGE, 3))
        return [quote.object for quote in answers.quotes], [quote.object for quote in quotes]

    threaded = ThreadedDocs(docs)
    assert (threaded.name, threaded.num_documents) == (docs.name, docs.num_documents)
    answered, found = asyncio.run(ask())
    assert answered == found
    assert found[0] == "heapq.merge"


def test_a_damaged_index_is_built_again(
    tmp_path: Path, embedder: Embedder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    docs: PythonDocs,
) -> None:  # fmt: skip
    path = index_path(tmp_path)
    path.write_bytes(b"not an index")
    stages: list[str] = []
    some = docs._search.store.contents.entries[:3]
    from_disk = Documentation("x", some, {"winreg": "ModuleNotFoundError"})
    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda: from_disk)
    monkeypatch.setattr("cynosure.cli.python_docs.python_source", lambda: "x")
    opened = open_python_docs(path, embedder, lambda stage, done, total: stages.append(stage))
    assert opened.num_documents == 3
    assert "damaged" in caplog.text
    assert stages[0].startswith("Reading")
    assert "Indexing passages" in stages


def test_a_folder_that_can_not_be_written_is_said(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, docs: PythonDocs
) -> None:
    some = Documentation("x", docs._search.store.contents.entries[:1], {})
    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda: some)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"can't be written.*--index-dir"):
        open_python_docs(index_path(tmp_path / "file"), embedder, lambda stage, done, total: None)


def test_scores_keep_the_order_and_meet_the_line() -> None:
    scores = [chance(score, 11.0) for score in (-1e6, 0.0, 10.9, 11.0, 11.1, 30.0, 1e6)]
    assert scores == sorted(scores)
    assert scores[3] == LINE
    assert (scores[0], scores[-1]) == (pytest.approx(0.0), pytest.approx(1.0))


def test_a_folder_that_can_not_be_written_is_said_before_the_work(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Documentation:
        raise AssertionError("all was read, and could never be written")

    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", never)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="can't be written"):
        build_python_docs(tmp_path / "file" / "index.sqlite", embedder, lambda *_: None)


def test_why_a_write_failed_is_told_and_not_that_taking_it_back_failed_too(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, docs: PythonDocs
) -> None:
    some = Documentation("x", docs._search.store.contents.entries[:1], {})

    def full(*_: object) -> None:
        try:
            raise OSError("disk is full")
        except OSError:
            raise OSError("cannot rollback")  # noqa: B904 - as it comes from below

    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda: some)
    monkeypatch.setattr("cynosure.cli.python_docs.build_index", full)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        build_python_docs(tmp_path / "index.sqlite", embedder, lambda *_: None)
