"""Test the questions that the search is judged by, and the measures that judge it."""

from __future__ import annotations

import random
import re

import ir_measures
import pytest

from cynosure.retrieval import Documentation, read_python_docs
from evals.docs_search_data import Question, quality, read_questions

#: Of each split: questions, and questions that the documentation does not answer.
SPLITS = {"heldout": (60, 30), "dev": (60, 30), "test": (150, 60)}


@pytest.fixture(scope="module")
def docs() -> Documentation:
    return read_python_docs()


def answers_of(split: str) -> set[str]:
    return {name for question in read_questions("questions", split) for name in question.answers}


def leaks(question: Question) -> list[str]:
    """Names of whole objects (not of their modules) that stand in the question as a word."""
    words = set(re.findall(r"\w+", question.question.lower()))
    return [name for name in question.answers if "." in name and name.rpartition(".")[2].lower() in words]


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_documented(docs: Documentation, split: str) -> None:
    known = {name for entry in docs.entries for name in (entry.name, *entry.aliases)}
    assert answers_of(split) <= known


def test_every_question_of_the_faq_has_a_documented_answer(docs: Documentation) -> None:
    known = {name for entry in docs.entries for name in (entry.name, *entry.aliases)}
    questions = read_questions("questions", "faq")
    assert len(questions) > 40
    assert [question.id for question in questions if not known & set(question.answers)] == []
    assert read_questions("unanswerable", "faq") == []


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_and_ids(split: str) -> None:
    asked, nothing = read_questions("questions", split), read_questions("unanswerable", split)
    assert (len(asked), len(nothing)) == SPLITS[split]
    assert len({question.id for question in asked + nothing}) == sum(SPLITS[split])
    assert all(question.answers for question in asked)
    assert not any(question.answers for question in nothing)


@pytest.mark.parametrize("split", ["heldout", "test"])
def test_no_object_is_asked_for_where_weights_are_fitted_too(split: str) -> None:
    assert not answers_of(split) & answers_of("dev")


@pytest.mark.parametrize("split", ["heldout", "test"])
def test_heldout_questions_do_not_name_the_object(split: str) -> None:
    assert [leaks(question) for question in read_questions("questions", split) if leaks(question)] == []
    # The check would notice.
    assert leaks(Question("x", "how do I merge sorted iterables", ("heapq.merge",))) == ["heapq.merge"]


def test_our_measures_equal_ir_measures() -> None:
    rng = random.Random(3)
    wanted = [frozenset(rng.sample(range(40), rng.randint(1, 4))) for _ in range(50)]
    rankings = [rng.sample(range(40), 15) for _ in wanted]
    qrels = [ir_measures.Qrel(str(q), str(d), 1) for q, answers in enumerate(wanted) for d in answers]
    run = [
        ir_measures.ScoredDoc(str(q), str(d), float(-place))
        for q, ranking in enumerate(rankings)
        for place, d in enumerate(ranking)
    ]
    measures = {
        "mrr10": ir_measures.RR @ 10,
        "recall5": ir_measures.Success @ 5,
        "top1": ir_measures.Success @ 1,
    }
    theirs = ir_measures.calc_aggregate(measures.values(), qrels, run)
    ours = quality(rankings, wanted)
    for name, measure in measures.items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-9)
    assert 0 < ours["top1"] < ours["mrr10"] < 1


def test_no_ranking_scores_nothing() -> None:
    assert quality([[], [1, 2]], [frozenset({1}), frozenset({3})]) == {"mrr10": 0, "recall5": 0, "top1": 0}
