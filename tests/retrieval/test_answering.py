"""Test both sides of answering: quotes that stand in their source, and saying that nothing answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from cynosure.retrieval import (
    Answering,
    Calibration,
    DocsSearch,
    Documentation,
    Gate,
    Store,
    build_index,
    open_index,
)
from cynosure.retrieval.answer_gate import rarity_of
from cynosure.retrieval.answering import NUM_READ
from cynosure.retrieval.rank import LINE
from cynosure.retrieval.search import LABELS
from tests.retrieval.fakes import DOCUMENTATION, ENTRIES, BagOfWords, WordEvidence

BY_ANSWERS = Gate(relevant=0.0, answers=1.0, no_answer=0.0, similarity=0.0, fused=0.0, rarity=0.0, bias=0.0)
NEVER = Calibration(1e6, "refuses all")


class SaysOf:
    """A ranker that says what it is told to of texts with a word, and the opposite of others."""

    model_id, max_tokens, labels = "says", 63, LABELS

    def __init__(self, word: str, logits: tuple[float, float, float] = (1.0, 3.0, -1.0)) -> None:
        self.word, self.logits = word, logits

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        signs = [1.0 if self.word in text else -1.0 for text in texts]
        rows = np.array([self.logits], dtype=np.float32) * np.array(signs, dtype=np.float32)[:, None]
        return rows.astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("answering") / "i"
    build_index(path, DOCUMENTATION, BagOfWords())
    return open_index(path, DOCUMENTATION.source, BagOfWords())


def _answering(store: Store, ranker: SaysOf | None, gate: Gate = BY_ANSWERS) -> Answering:
    search = DocsSearch(store, BagOfWords(), calibration=NEVER, ranker=ranker)
    return Answering(search, BagOfWords(), ranker, gate)


def test_the_sentence_that_answers_is_highlighted_in_a_quote_at_its_place(store: Store) -> None:
    answered = _answering(store, SaysOf("Similar")).answer("merge sorted inputs", 4, WordEvidence())
    assert answered.quoted.answered
    assert answered.quoted.confidence == pytest.approx(1 / (1 + np.exp(-3.0)))
    first = answered.quoted.passages[0]
    assert first.hit.name == "heapq.merge"
    assert first.highlight is not None
    assert first.hit.text[slice(*first.highlight)] == "Similar to sorted(itertools.chain(*i))."
    docs = {entry.name: entry.doc for entry in ENTRIES}
    for passage in answered.quoted.passages:
        assert docs[passage.hit.name][passage.hit.start : passage.hit.end] == passage.hit.text != ""
        words = [passage.hit.text[span.start : span.end] for span in passage.attended]
        assert words == passage.hit.text.split()
    assert set(answered.timings_ms) == {"embed", "rank", "rerank", "quote", "evidence"}


def test_without_a_sentence_that_answers_nothing_is_quoted(store: Store) -> None:
    answered = _answering(store, SaysOf("no text has this")).answer("merge sorted inputs", 4)
    quoted = answered.quoted
    assert not quoted.answered
    assert quoted.passages == ()
    assert quoted.threshold == LINE
    assert quoted.reason == "the chance that what was found answers is 0.05; below 0.5 it is no answer"
    # What was found is told all the same.
    assert answered.found.hits


@pytest.mark.parametrize(("bias", "answers"), [(-2.9, True), (-3.1, False)])
def test_the_gate_alone_decides_where_there_is_a_ranker(store: Store, bias: float, answers: bool) -> None:
    gate = Gate(relevant=0.0, answers=1.0, no_answer=0.0, similarity=0.0, fused=0.0, rarity=0.0, bias=bias)
    found = _answering(store, SaysOf("Similar"), gate).answer("merge sorted inputs", 1)
    assert found.quoted.answered is answers
    assert not found.found.fits


def test_the_decision_does_not_depend_on_how_many_are_quoted(store: Store) -> None:
    answering = _answering(store, SaysOf("tree"))
    found = [answering.answer("merge sorted inputs", count) for count in (1, 2, NUM_READ, 20)]
    assert len({one.signs for one in found}) == 1
    assert [len(one.quoted.passages) for one in found] == [1, 2, 4, 4]


def test_without_a_ranker_the_score_decides(store: Store) -> None:
    answered = _answering(store, None).answer("merge sorted inputs", 4)
    assert not answered.quoted.answered
    assert answered.signs is None
    accepting = Answering(DocsSearch(store, BagOfWords(), calibration=Calibration(-1e6, "all")), BagOfWords())
    quoted = accepting.answer("merge sorted inputs", 2, WordEvidence()).quoted
    assert [passage.highlight for passage in quoted.passages] == [None, None]
    assert all(passage.attended for passage in quoted.passages)


def test_the_signs_are_those_of_what_would_be_quoted(store: Store) -> None:
    signs = _answering(store, SaysOf("Merge multiple")).answer("merge sorted inputs", 1).signs
    assert signs is not None
    assert (signs.relevant, signs.answers, signs.no_answer) == (1.0, 3.0, -1.0)
    assert 0 < signs.similarity <= 1


def test_an_empty_index_says_nothing(tmp_path: Path) -> None:
    build_index(tmp_path / "i", Documentation("none", (), {}), BagOfWords())
    empty = open_index(tmp_path / "i", "none", BagOfWords())
    for ranker in (None, SaysOf("x")):
        answered = _answering(empty, ranker).answer("merge sorted inputs", 4)
        assert not answered.quoted.answered
        assert answered.found.hits == ()
        assert answered.signs is None
    empty.close()


def test_words_that_the_index_has_not_heard_of_are_rare(store: Store) -> None:
    known = rarity_of("merge inputs", store)
    assert known == pytest.approx(1 / 2**0.5)
    # A phrase for an object counts like its texts.
    assert rarity_of("files", store) == known
    assert rarity_of("merge sourdough", store) == pytest.approx((1 + 1 / 2**0.5) / 2)
    assert rarity_of('"', store) == 0.0
    assert store.num_objects_with(["merge", "a", 'q"', "\0"], 2) == [1, 2, 0, 0]
