"""Questions made of a documentation's own text do not repeat what answers them."""

from __future__ import annotations

import random

from cynosure.retrieval import Documentation, Entry
from cynosure.retrieval.documents import REFERENCE
from cynosure.train.pair_questions import (
    first_sentence,
    in_other_words,
    is_held_out,
    made_questions,
    sentences,
    unanswerable_questions,
)
from tests.train.small_docs import documentation


def test_sentences_cover_a_text_and_end_with_paragraphs() -> None:
    doc = "Do this. Then that, e.g. here!\n\n    A code\n  line. (See there.)"
    found = [doc[start:end] for start, end in sentences(doc, (0, len(doc)))]
    assert found == ["Do this.", "Then that, e.g. here!", "A code\n  line.", "(See there.)"]


def test_a_summary_is_said_in_other_words() -> None:
    said = [
        in_other_words("Returns the merge of two inputs.", "heapq.merge", random.Random(seed))
        for seed in range(100)
    ]
    assert len(set(said)) > 10
    assert not any("return" in one.lower() for one in said)
    assert any(one.startswith("how do I ") for one in said)
    assert sum("merge" in one for one in said) < len(said) / 2
    assert in_other_words("Heap queue algorithm.", "heapq", random.Random(1)).startswith("heap")


def test_a_sentence_is_taken_out_of_what_answers_it() -> None:
    found = [question for question in made_questions(documentation(), 0) if question.kind == "cloze"]
    assert len(found) > 40
    for question in found:
        assert question.text not in " ".join(question.answer.split())
        assert len(question.answer.split()) > 3


def test_a_heading_asks_for_its_section() -> None:
    doc = "Recipes of the sea\n\nA map is folded twice. A rope is not."
    section = Entry("sea", "module", "sea", "", doc, source=REFERENCE)
    found = made_questions(Documentation("", (section,), {}), 0)
    (heading,) = [question for question in found if question.kind == "heading"]
    assert (heading.text, heading.answer) == ("Recipes of the sea", doc.partition("\n\n")[2])


def test_names_ask_too_and_the_seed_chooses() -> None:
    first, again, other = (made_questions(documentation(), seed) for seed in (0, 0, 1))
    assert first == again != other
    assert any(question.kind == "name" and "key" in question.text for question in first)


def test_a_tenth_is_held_out() -> None:
    share = sum(is_held_out(f"name{index}") for index in range(5000)) / 5000
    assert 0.08 < share < 0.12


def test_the_first_sentence_is_on_one_line() -> None:
    entry = Entry("a.f", "function", "a", "", "f(x)\n\nDo\n  this. Not that.")
    assert first_sentence(entry) == "Do this."


def test_there_are_questions_without_an_answer() -> None:
    found = unanswerable_questions()
    assert len(found) == len(set(found)) >= 100
    assert all(question == question.strip() and question for question in found)
