"""What is held out is nowhere in what is learned from, and nothing wrong is a right answer in disguise."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.retrieval.text import identifier_words
from cynosure.train.pair_questions import is_held_out
from cynosure.train.pairs import ASKED, MADE, UNANSWERABLE, PairData, read_pairs
from tests.train.small_docs import documentation, small_pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    return small_pairs(tmp_path_factory.mktemp("pairs"))


def shown(data: PairData, is_held_out_case: bool) -> set[str]:
    """Every text of the cases that are held out, or of the others."""
    return {
        data.texts[place]
        for case in data.cases
        if case.is_held_out is is_held_out_case
        for place in (*case.right, *case.wrong)
    }


def leaks(data: PairData) -> list[str]:
    """Texts under the heading of a held-out object that are learned from."""
    headings = [
        f"{identifier_words(entry.name)}: " for entry in documentation().entries if is_held_out(entry.name)
    ]
    assert headings
    return [text for text in shown(data, False) if any(text.startswith(heading) for heading in headings)]


def test_held_out_objects_are_never_learned_from(data: PairData) -> None:
    assert leaks(data) == []
    for case in data.cases:
        assert case.is_held_out == is_held_out(case.object or case.question)


def test_a_leak_would_be_found(data: PairData) -> None:
    held_out = next(case for case in data.cases if case.is_held_out and case.object)
    learned = next(case for case in data.cases if not case.is_held_out)
    leaky = type(learned)(**{**vars(learned), "wrong": (*learned.wrong, *held_out.right)})
    assert leaks(PairData(data.texts, (*data.cases, leaky)))


def test_every_kind_is_there(data: PairData) -> None:
    kinds = {(case.kind, case.of_sentences) for case in data.cases}
    assert kinds == {
        (ASKED, False), (ASKED, True), (MADE, False), (MADE, True), (UNANSWERABLE, False),
        (UNANSWERABLE, True),
    }  # fmt: skip
    assert all(bool(case.right) == (case.kind != UNANSWERABLE) for case in data.cases)
    assert all(case.wrong for case in data.cases)


def test_what_is_wrong_is_of_other_objects(data: PairData) -> None:
    for case in data.cases:
        if case.kind == ASKED and not case.of_sentences:
            short = case.object.rpartition(".")[2]
            for place in case.wrong:
                heading = data.texts[place].partition(":")[0]
                # Objects of the same short name might answer as well.
                assert heading != identifier_words(case.object)
                assert not heading.endswith(f" {short}")


def test_sentences_and_signatures_answer(data: PairData) -> None:
    case = next(case for case in data.cases if case.object == "ropes.fold" and case.of_sentences)
    right = [data.texts[place] for place in case.right]
    assert right == [
        "ropes fold: Return all ropes after one fold of them.",
        "ropes fold: ropes.fold(ropes, key=None)",
    ]
    wrong = [data.texts[place] for place in case.wrong]
    assert any(text.startswith("ropes fold: ") for text in wrong)
    assert any(not text.startswith("ropes fold: ") for text in wrong)


def test_details_are_asked_for_too(data: PairData) -> None:
    cases = [case for case in data.cases if case.kind == MADE and case.of_sentences]
    assert len(cases) > 20
    for case in cases:
        (right,) = (data.texts[place] for place in case.right)
        wrong = [data.texts[place] for place in case.wrong]
        assert right not in wrong
        # The summary of the same object is wrong here.
        assert any(text.startswith(right.partition(":")[0]) and "Return all" in text for text in wrong)
        assert case.question != right.partition(": ")[2]


def test_held_out_cases_know_what_the_first_stage_says(data: PairData) -> None:
    cases = [case for case in data.cases if case.is_held_out and not case.of_sentences]
    assert cases
    for case in cases:
        assert len(case.similarity) == len(case.bm25) == len(case.right) + len(case.wrong)


def test_data_are_read_as_written_and_their_digest_is_of_all(data: PairData, tmp_path: Path) -> None:
    data.write(tmp_path / "pairs.jsonl")
    again = read_pairs(tmp_path / "pairs.jsonl")
    assert again == data
    assert again.digest() == data.digest()
    assert PairData(data.texts, data.cases[:-1]).digest() != data.digest()
    assert PairData((*data.texts[:-1], "other"), data.cases).digest() != data.digest()


def test_the_same_seed_gives_the_same_data(data: PairData, tmp_path: Path) -> None:
    assert small_pairs(tmp_path / "a").digest() == data.digest()
    assert small_pairs(tmp_path / "b", seed=1).digest() != data.digest()
