"""Test what judges answers: what counts as contained, as verbatim and as cited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.retrieval import Entry
from evals.answers_data import Quotation, Sources, answers, judge, read_contained
from evals.docs_search_data import Question, read_questions

DOC = "Merge inputs.\n\n    Similar to sorted(), but\n    returns a generator."
ENTRIES = (
    Entry("heapq.merge", "function", "heapq", "(*iterables)", DOC, ("heapq.join",)),
    Entry("heapq", "module", "heapq", "", "Second section.", start=100, source="reference"),
)
MERGE = Quotation(
    frozenset({"heapq.merge", "heapq.join"}), "heapq.merge(*iterables)", DOC[:13], 0, "docstring"
)
SECTION = Quotation(frozenset({"heapq"}), "heapq", "section", 107, "reference")


@pytest.mark.parametrize(
    ("text", "contains"),
    [
        ("Similar to SORTED(), but\n    returns a generator.", True),
        ("returns a generator, similar to sorted(", False),
        ("Merge", False),
        ("x in order", True),
    ],
)
def test_all_strings_of_some_alternative(text: str, contains: bool) -> None:
    assert answers(text, (("similar to sorted(), but returns", "generator"), ("x in order",))) is contains


def test_a_quote_altered_by_one_character_is_caught() -> None:
    sources = Sources(ENTRIES)
    for quote in (MERGE, SECTION):
        assert sources.is_verbatim(quote)
        assert not sources.is_verbatim(replace(quote, start=quote.start + 1))
        for place in range(len(quote.text)):
            altered = quote.text[:place] + chr(ord(quote.text[place]) + 1) + quote.text[place + 1 :]
            assert not sources.is_verbatim(replace(quote, text=altered))
    assert not sources.is_verbatim(replace(SECTION, source="docstring"))
    assert not sources.is_verbatim(replace(MERGE, names=frozenset({"heapq"})))
    # Before the slice that the entry is.
    assert not sources.is_verbatim(replace(SECTION, start=99, text=""))


def test_what_is_judged() -> None:
    questions = [Question("a", "?", ("heapq.join",)), Question("b", "?", ("sorted",))]
    contained = {"a": (("merge inputs",),), "b": (("merge", "iterables"),)}
    right = replace(MERGE, highlight="Merge inputs.")
    figures = judge(questions, contained, [[SECTION, right], [right]])
    assert figures == {
        "cited": 0.5,
        "quote_contains": 1.0,
        "right_contains": 0.5,
        "highlight_contains": 1.0,
        "first_contains": 0.5,
        "quote_chars": pytest.approx((7 + 13 + 13) / 3),
    }
    nothing = judge(questions, contained, [[], []])
    assert set(nothing.values()) == {0.0}


def test_every_development_question_has_what_answers() -> None:
    assert {question.id for question in read_questions("questions", "dev")} == set(read_contained("dev"))
