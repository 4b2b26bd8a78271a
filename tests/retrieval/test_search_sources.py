"""Test what leads to an object beside its docstring: phrases, the reference, a ranker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.core.errors import EngineDown, UnsupportedConfig
from cynosure.retrieval import Calibration, DocsSearch, Documentation, Ranking, build_index, open_index
from cynosure.retrieval.documents import REFERENCE, Entry
from tests.retrieval.fakes import DOCUMENTATION, ENTRIES, BagOfWords, CountsWords

ANYTHING = Calibration(-1000.0, "accepts anything")
ASKED = {"shutil.rmtree": ("wipe a whole folder", "rm -rf"), "unknown.name": ("wipe a whole folder",)}
PI = Entry("math.pi", "data", "math", "", "The ratio of circumference and diameter.", source=REFERENCE)
FURTHER = (
    Entry("heapq.merge", "function", "heapq", "(a)", "Join ordered logs.\n\nLazily so.", source=REFERENCE),
    Entry("heapq", "module", "heapq", "", "Theory\n\nArrays hold trees.", source=REFERENCE),
    Entry("heapq", "module", "heapq", "", "Recipes\n\nSort by heaps.", start=26, source=REFERENCE),
    PI,
)
LIBRARY = replace(DOCUMENTATION, entries=(*ENTRIES, *FURTHER), asked=ASKED)

Open = Callable[..., DocsSearch]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    stores = []

    def make(documentation: Documentation = LIBRARY, **options: object) -> DocsSearch:
        build_index(tmp_path / "i", documentation, BagOfWords())
        store = open_index(tmp_path / "i", documentation.source, BagOfWords())
        stores.append(store)
        return DocsSearch(store, BagOfWords(), **{"calibration": ANYTHING, **options})

    yield make
    for store in stores:
        store.close()


def test_a_phrase_leads_to_its_object_and_is_not_quoted(opened: Open) -> None:
    with_phrases = opened().search("wipe a whole folder")
    assert with_phrases.hits[0].name == "shutil.rmtree"
    assert "wipe" not in with_phrases.hits[0].text
    # Without the phrases nothing has a word of the question but "a".
    without = opened(replace(LIBRARY, asked={})).search("wipe a whole folder")
    assert without.hits[0].score < with_phrases.hits[0].score


def test_phrases_of_unknown_objects_are_left_out(opened: Open) -> None:
    assert [phrase.text for phrase in opened().store.contents.phrases] == list(ASKED["shutil.rmtree"])


def test_an_object_of_two_sources_is_one_hit_that_names_its_source(opened: Open) -> None:
    search = opened()
    hits = search.search("join ordered logs", 100).hits
    assert len({hit.name for hit in hits}) == len(hits) == search.num_objects == len(ENTRIES) + 1
    first = hits[0]
    assert (first.name, first.source, first.text) == ("heapq.merge", "reference", "Join ordered logs.")
    assert first.signature == "(*iterables, key=None)"
    merging = search.search("merge multiple sorted inputs into a single sorted output").hits[0]
    assert (merging.name, merging.source) == ("heapq.merge", "docstring")


def test_offsets_of_a_section_count_in_the_module_s_whole_text(opened: Open) -> None:
    search = opened()
    hit = next(hit for hit in search.search("recipes sort by heaps", 100).hits if hit.name == "heapq")
    assert (hit.source, hit.start, hit.end) == ("reference", 26, 26 + len(FURTHER[2].doc))
    assert search.store.contents.entries[hit.place].doc == hit.text == FURTHER[2].doc


def test_what_only_the_reference_knows_is_found(opened: Open) -> None:
    hit = opened().search("ratio of circumference and diameter").hits[0]
    assert (hit.name, hit.kind, hit.source) == ("math.pi", "data", "reference")


def test_words_of_the_reference_count_for_the_object(opened: Open) -> None:
    search = opened()
    place = [entry.name for entry in search.store.contents.entries].index("heapq.merge")
    assert search.store.bm25(["lazily"]).argmax() == place
    assert search.store.asked_bm25(["wipe"]).argmax() == 3
    assert search.store.asked_bm25(["lazily"]).max() == 0


def test_the_ranker_decides_among_what_it_reads(opened: Open) -> None:
    plain = opened().search("delete a directory tree", 100)
    for sign in (1.0, -1.0):
        ranker = CountsWords(sign)
        found = opened(ranker=ranker, ranking=Ranking(depth=2)).search("delete a directory tree", 100)
        (read,) = ranker.read
        assert len(read) == 2
        assert read[0] == plain.hits[0].heading + plain.hits[0].text
        order = [hit.name for hit in plain.hits]
        expected = order if sign > 0 else [order[1], order[0], *order[2:]]
        assert [hit.name for hit in found.hits] == expected
        scores = [hit.score for hit in found.hits]
        assert scores == sorted(scores, reverse=True)
        assert [len(hit.logits) for hit in found.hits] == [3, 3, *[0] * (len(order) - 2)]
        # By the search's labels, whatever the ranker's order: relevant, answers, no answer.
        assert {hit.logits[1:] for hit in found.hits[:2]} == {(0.5, -1.0)}
        assert {hit.name: hit.fused for hit in found.hits} == {hit.name: hit.fused for hit in plain.hits}
        assert set(found.timings_ms) == {"embed", "rank", "rerank"}
    assert set(plain.timings_ms) == {"embed", "rank"}
    assert all(hit.logits == () and hit.fused == hit.score for hit in plain.hits)


def test_a_ranker_that_judges_otherwise_or_reads_too_little_is_refused(opened: Open) -> None:
    other = CountsWords()
    other.labels = ("LABEL_0",)
    with pytest.raises(UnsupportedConfig, match="judges LABEL_0; the search needs relevant, answers"):
        opened(ranker=other)
    with pytest.raises(UnsupportedConfig, match=r"reads 62 tokens; .* up to 63"):
        opened(ranker=CountsWords(max_tokens=62))


def test_a_fault_of_the_ranker_is_the_question_s(opened: Open) -> None:
    class Down(CountsWords):
        def score(self, question: str, texts: object) -> object:
            raise EngineDown("there is no engine. Wait.")

    with pytest.raises(EngineDown):
        opened(ranker=Down()).search("delete a directory tree")


@pytest.mark.parametrize(
    "question", ["what does shutil.rmtree do with sorted inputs", "strip the rmtree() of sorted"]
)
def test_an_object_that_is_named_comes_first(opened: Open, question: str) -> None:
    entries = (*ENTRIES, Entry("rmtree", "function", "builtins", "()", "Never mind."))
    hits = opened(replace(LIBRARY, entries=entries)).search(question).hits
    assert hits[0].name == ("shutil.rmtree" if "shutil" in question else "rmtree")


def test_the_end_of_a_name_names_it(opened: Open) -> None:
    entries = (*ENTRIES, Entry("pathlib.Path.mkdir", "method", "pathlib", "()", "Create a directory."))
    search = opened(replace(LIBRARY, entries=entries))
    assert search.search("merge sorted inputs by Path.mkdir").hits[0].name == "pathlib.Path.mkdir"
    assert search.search("merge sorted inputs by mkdir").hits[0].name == "heapq.merge"
