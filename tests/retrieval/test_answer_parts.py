"""Test that the part that answers is found, and quoted with whole sentences around it, at its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from cynosure.retrieval import Documentation, Entry, Hit, build_index, open_index
from cynosure.retrieval.answer_parts import MAX_PARTS, Part, Parts, quote_parts
from cynosure.retrieval.documents import REFERENCE
from cynosure.retrieval.search import LABELS, DocsSearch
from tests.retrieval.fakes import BagOfWords

DOC = """Walk a tree.

Top comes first. Bottom may come first instead. Links are not followed!

- one
- two"""
SAYS = "Go through all folders below a folder. Errors are ignored by default."
ENTRIES = (
    Entry("os.walk", "function", "os", "(top, topdown=True)", DOC),
    Entry("os", "module", "os", "", "Interfaces of the system. Many of them."),
    Entry("os.walk", "function", "os", "(top)", SAYS, start=7, source=REFERENCE),
    Entry("os", "module", "os", "", "Files\n\nDescriptors are small numbers.", source=REFERENCE),
    Entry("os", "module", "os", "", "Processes\n\nA child is forked.", start=40, source=REFERENCE),
)


class Prefers:
    """A ranker that says `answers` of texts with a word; tells what it read."""

    model_id, max_tokens, labels = "prefers", 63, LABELS

    def __init__(self, word: str) -> None:
        self.word = word
        self.read: list[str] = []

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        self.read += texts
        rows = [(0.0, 5.0 if self.word in text else -5.0, 0.0) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 3)


@pytest.fixture
def search(tmp_path: Path) -> Iterator[DocsSearch]:
    build_index(tmp_path / "i", Documentation("d", ENTRIES, {}), BagOfWords())
    found = DocsSearch(open_index(tmp_path / "i", "d", BagOfWords()), BagOfWords())
    yield found
    found.store.close()


def _hit(search: DocsSearch, name: str, question: str = "walk a tree") -> Hit:
    return next(hit for hit in search.search(question).hits if hit.name == name)


def _source(hit: Hit) -> str:
    return next(
        entry.doc[hit.start - entry.start : hit.end - entry.start]
        for entry in ENTRIES
        if (entry.name, entry.source) == (hit.name, hit.source)
        and entry.start <= hit.start < entry.start + len(entry.doc)
    )


@pytest.mark.parametrize("word", ["Walk", "Bottom", "Links", "two", "folders", "Errors"])
def test_the_part_that_answers_is_quoted_at_its_place(search: DocsSearch, word: str) -> None:
    (quoted,), (answers,) = quote_parts(
        "q", [_hit(search, "os.walk")], Parts(search.store.contents), Prefers(word), BagOfWords()
    )
    assert answers == 5.0
    assert quoted.highlight is not None
    start, end = quoted.highlight
    assert word in quoted.hit.text[start:end]
    assert len(quoted.hit.text[start:end]) < 50
    assert quoted.hit.text == _source(quoted.hit)
    assert quoted.hit.source == (REFERENCE if word in SAYS else "docstring")
    assert quoted.author == "retriever"


def test_a_signature_may_answer_and_is_no_part_of_the_slice(search: DocsSearch) -> None:
    hit, ranker = _hit(search, "os.walk"), Prefers("topdown")
    (quoted,), (answers,) = quote_parts("q", [hit], Parts(search.store.contents), ranker, BagOfWords())
    assert answers == 5.0
    assert "os walk: os.walk(top, topdown=True)" in ranker.read
    assert "topdown" not in quoted.hit.text
    long = replace(hit, signature="(" + ", ".join("abcdefghijk") * 9 + ")")
    _, (answers,) = quote_parts("q", [long], Parts(search.store.contents), Prefers("a, b"), BagOfWords())
    assert answers == -5.0


def test_what_is_read_is_the_closest_passage_and_how_texts_begin(search: DocsSearch) -> None:
    ranker = Prefers("x")
    parts = Parts(search.store.contents)
    quote_parts("q", [_hit(search, "os", "a child is forked")], parts, ranker, BagOfWords())
    assert "os: A child is forked." in ranker.read
    assert "os: Interfaces of the system." in ranker.read
    # Another section than the closest.
    assert not any("Descriptors" in text for text in ranker.read)
    assert all("\n" not in text for text in ranker.read)


def test_quotes_of_several_hits_keep_their_order(search: DocsSearch) -> None:
    hits = search.search("walk a tree").hits
    assert len(hits) == 2
    quotes, answers = quote_parts(
        "q", hits, Parts(search.store.contents), Prefers("Interfaces"), BagOfWords()
    )
    assert [quote.hit.name for quote in quotes] == [hit.name for hit in hits]
    assert sorted(answers) == [-5.0, 5.0]
    assert answers[[hit.name for hit in hits].index("os")] == 5.0


@pytest.mark.parametrize(
    ("max_chars", "text"),
    [
        (0, "Bottom may come first instead."),
        (46, "Bottom may come first instead."),
        (47, "Top comes first. Bottom may come first instead."),
        (54, "Bottom may come first instead. Links are not followed!"),
        (66, "Bottom may come first instead. Links are not followed!\n\n- one"),
        (84, DOC[DOC.index("Top") :]),
        (999, DOC),
    ],
)
def test_a_quote_is_whole_sentences_up_to_its_limit(search: DocsSearch, max_chars: int, text: str) -> None:
    start = DOC.index("Bottom")
    part = Part(0, start, start + 30)
    quoted = Parts(search.store.contents).quoted(_hit(search, "os.walk"), part, BagOfWords(), max_chars)
    assert quoted.hit.text == text
    assert quoted.highlight is not None
    assert quoted.hit.text[slice(*quoted.highlight)] == "Bottom may come first instead."


def test_a_quote_has_no_more_tokens_than_can_be_read(search: DocsSearch) -> None:
    start = DOC.index("Bottom")
    part = Part(0, start, start + 30)
    few = BagOfWords(max_tokens=2 + 2 + 9)
    quoted = Parts(search.store.contents).quoted(_hit(search, "os.walk"), part, few, 999)
    assert quoted.hit.text == "Bottom may come first instead. Links are not followed!"


def test_no_more_parts_are_read_than_the_limit(tmp_path: Path) -> None:
    doc = "\n\n".join(f"Line {n} is. Here." for n in range(MAX_PARTS))
    entries = (Entry("a", "function", "a", "", doc),)
    build_index(tmp_path / "i", Documentation("d", entries, {}), BagOfWords(max_tokens=999))
    store = open_index(tmp_path / "i", "d", BagOfWords(max_tokens=999))
    hit = DocsSearch(store, BagOfWords(max_tokens=999)).search("line here").hits[0]
    assert len(Parts(store.contents).of(hit)) == MAX_PARTS
    store.close()
