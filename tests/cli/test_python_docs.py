from __future__ import annotations

import asyncio
import heapq
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from cynosure.cli.python_docs import (
    PythonDocs,
    ThreadedDocs,
    build_python_docs,
    index_path,
    open_python_docs,
)
from cynosure.core.errors import EmptyInput, EnvironmentFault, IndexFault, InputTooLong, NotFound
from cynosure.engine.wire.messages import Shares
from cynosure.models.embedder import Embedder
from cynosure.retrieval import LABELS, LINE, DocsSearch, Documentation, Gate
from cynosure.server.services import SourcePlace

MERGE = "how do I merge sorted iterables"
BY_ANSWERS = Gate(relevant=0.0, answers=1.0, no_answer=0.0, similarity=0.0, fused=0.0, rarity=0.0, bias=0.0)


class Sure:
    """A ranker that is sure of texts with some words, and of no other; it attends to a text's first word."""

    model_id, max_tokens, labels = "sure", 511, LABELS

    def __init__(self, words: str) -> None:
        self.words = words

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        rows = [(9.0, 9.0, -9.0) if self.words in text else (-9.0, -9.0, 9.0) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 3)

    def attended(self, question: str, text: str) -> Shares:
        start = text.index(": ") + 2
        return Shares(((start, start + len(text[start:].split()[0])),), (0.5,), 0.5)


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


@pytest.mark.parametrize(("words", "is_said"), [("returns a generator", True), ("no text says this", False)])
def test_with_a_ranker_the_sentence_that_answers_is_told(
    docs: PythonDocs, embedder: Embedder, words: str, is_said: bool
) -> None:
    ranker = Sure(words)
    search = DocsSearch(docs._search.store, embedder, ranker=ranker)
    answer = PythonDocs(search, embedder, ranker=ranker, gate=BY_ANSWERS).ask(MERGE, 3)
    assert answer.answered is is_said
    if not is_said:
        assert answer.quotes == ()
        assert answer.reason.startswith("The chance that what was found answers is 0.0")
        return
    first = answer.quotes[0]
    assert (first.object, first.source) == ("heapq.merge", "docstring")
    assert first.highlight is not None
    said = first.text[first.highlight.start : first.highlight.end]
    assert said.startswith("Similar to sorted(")
    assert said.endswith("(smallest to largest).")
    assert heapq.merge.__doc__ is not None
    assert first.text == heapq.merge.__doc__[first.start : first.end]
    assert [first.text[word.start : word.end] for word in first.attended] == [first.text.split()[0]]
    assert set(answer.timings_ms) == {"embed", "rank", "rerank", "quote", "evidence"}


def test_nothing_fits_says_how_far_the_best_was(docs: PythonDocs) -> None:
    answer = docs.ask("which sourdough flour rises best", 3)
    assert not answer.answered
    assert answer.quotes == ()
    assert f"{answer.confidence:.2f}; below {LINE}" in answer.reason
    assert len(docs.search("which sourdough flour rises best", 3)) == 3


def test_every_quote_is_a_slice_of_its_source(docs: PythonDocs) -> None:
    quotes = docs.ask(MERGE, 8).quotes
    assert len(quotes) > 3
    for quote in quotes:
        place = SourcePlace(quote.object, quote.start, quote.end, quote.source)
        found = docs.source(place)
        assert found.text[found.start : found.end] == quote.text
        assert found.first + found.start == quote.start
        assert (found.object, found.source) == (quote.object, quote.source)
    assert docs.source(SourcePlace("heapq.merge", 0, 5)).text == heapq.merge.__doc__


@pytest.mark.parametrize(
    "place",
    [
        SourcePlace("heapq.absent", 0, 5),
        SourcePlace("heapq.merge", 0, 10**6),
        SourcePlace("heapq.merge", 5, 4),
        SourcePlace("heapq.merge", 0, 5, "reference"),
        SourcePlace("heapq.merge", 0, 5, "file", "other.md"),
    ],
)
def test_a_place_that_no_text_holds_is_said(docs: PythonDocs, place: SourcePlace) -> None:
    with pytest.raises(NotFound, match=re.escape(f"{place.start}..{place.end}")):
        docs.source(place)


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
    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda **_: from_disk)
    monkeypatch.setattr("cynosure.cli.python_docs.python_source", lambda _: "x")
    opened = open_python_docs(path, embedder, lambda stage, done, total: stages.append(stage))
    assert opened.num_documents == 3
    assert "damaged" in caplog.text
    assert stages[0].startswith("Reading")
    assert "Indexing passages" in stages


def test_a_folder_that_can_not_be_written_is_said(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, docs: PythonDocs
) -> None:
    some = Documentation("x", docs._search.store.contents.entries[:1], {})
    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda **_: some)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"can't be written.*--index-dir"):
        open_python_docs(index_path(tmp_path / "file"), embedder, lambda stage, done, total: None)


def test_a_folder_that_can_not_be_written_is_said_before_the_work(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(**_: object) -> Documentation:
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

    monkeypatch.setattr("cynosure.cli.python_docs.read_python_docs", lambda **_: some)
    monkeypatch.setattr("cynosure.cli.python_docs.build_index", full)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        build_python_docs(tmp_path / "index.sqlite", embedder, lambda *_: None)
