"""Test that questions find objects, that bad ones are refused, and that quotes are verbatim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cynosure.core.errors import EmptyInput, InputError, InputTooLong
from cynosure.retrieval import MAX_QUESTION, Calibration, DocsSearch, build_index, open_index, quote
from cynosure.retrieval.answer import shift
from cynosure.retrieval.protocols import AttendedSpan
from tests.retrieval.fakes import DOCUMENTATION, ENTRIES, BagOfWords, WordEvidence

ANYTHING = Calibration(-100.0, "accepts anything")


@pytest.fixture
def search(tmp_path: Path) -> Iterator[DocsSearch]:
    build_index(tmp_path / "i", DOCUMENTATION, BagOfWords())
    found = DocsSearch(
        open_index(tmp_path / "i", DOCUMENTATION.source, BagOfWords()), BagOfWords(), calibration=ANYTHING
    )
    yield found
    found.store.close()


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("merge sorted inputs", "heapq.merge"),
        ("delete a directory tree", "shutil.rmtree"),
        ("copy without blanks at the ends", "str.strip"),
        ("priority queue", "heapq"),
    ],
)
def test_the_right_object_comes_first(search: DocsSearch, question: str, name: str) -> None:
    first = search.search(question).hits[0]
    assert first.name == name
    assert first.similarity_rank == 1
    assert first.bm25_rank == 1


def test_a_hit_is_a_slice_of_its_docstring(search: DocsSearch) -> None:
    docs = {entry.name: entry.doc for entry in ENTRIES}
    hits = search.search("sorted chain tree Ünïcode", max_results=100).hits
    assert len({hit.name for hit in hits}) == len(hits) == len(ENTRIES)
    for hit in hits:
        assert docs[hit.name][hit.start : hit.end] == hit.text != ""
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_closest_passage_is_quoted(search: DocsSearch) -> None:
    similar = search.search("similar to sorted itertools chain").hits[0]
    merging = search.search("merge multiple sorted inputs into a single sorted output").hits[0]
    assert similar.name == merging.name == "heapq.merge"
    assert "itertools" in similar.text
    assert "itertools" not in merging.text


def test_no_common_word_has_no_bm25_rank(search: DocsSearch) -> None:
    assert all(hit.bm25_rank is None and hit.bm25 == 0 for hit in search.search("zzz").hits)


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_empty_question(search: DocsSearch, question: str) -> None:
    with pytest.raises(EmptyInput):
        search.search(question)


@pytest.mark.parametrize("question", ["x" * (MAX_QUESTION + 1), "x" * 1_000_000])
def test_question_over_the_characters(search: DocsSearch, question: str) -> None:
    with pytest.raises(InputTooLong, match=f"limit is {MAX_QUESTION}"):
        search.search(question)


def test_question_over_the_tokens(search: DocsSearch) -> None:
    assert search.search("x " * 30).hits
    with pytest.raises(InputTooLong, match="33 tokens; the limit of bag is 32"):
        search.search("x " * 31)


def test_question_that_is_no_text(search: DocsSearch) -> None:
    with pytest.raises(InputError, match="surrogate at character 1"):
        search.search("a\ud800")


@pytest.mark.parametrize("count", [0, -1, 101])
def test_number_of_results(search: DocsSearch, count: int) -> None:
    with pytest.raises(InputError, match="max_results"):
        search.search("x", max_results=count)


def test_quotes_carry_what_was_attended_to(search: DocsSearch) -> None:
    answer = quote("q", search.search("delete a directory tree", 1), WordEvidence())
    (passage,) = answer.passages
    words = [passage.hit.text[span.start : span.end] for span in passage.attended]
    assert words == passage.hit.text.split()
    assert passage.author == "retriever"
    assert answer.answered
    assert quote("q", search.search("tree", 1)).passages[0].attended == ()


def test_below_the_threshold_nothing_is_quoted(search: DocsSearch) -> None:
    found = search.search("delete a directory tree")
    score = found.hits[0].score
    for threshold, fits in ((score - 1e-4, True), (score + 1e-4, False)):
        strict = DocsSearch(search.store, BagOfWords(), calibration=Calibration(threshold, "test"))
        answer = quote("q", strict.search("delete a directory tree"))
        assert answer.answered is fits
        assert bool(answer.passages) is fits
        assert ("nothing in the documentation fits" in answer.reason) is not fits


def test_spans_before_the_quote_are_cut() -> None:
    spans = [AttendedSpan(0, 3, 0.2), AttendedSpan(2, 6, 0.3), AttendedSpan(7, 9, 0.5)]
    assert shift(spans, 4) == (AttendedSpan(0, 2, 0.3), AttendedSpan(3, 5, 0.5))
