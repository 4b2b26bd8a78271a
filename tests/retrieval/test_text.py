"""Test that identifiers, questions and docstrings are cut where a reader would."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.retrieval.text import identifier_words, mentions, paragraphs, query_terms, summary_span


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("urllib.parse.parse_qs", "urllib parse parse qs"),
        ("http.server.HTTPServer", "http server http server"),
        ("configparser.RawConfigParser", "configparser raw config parser"),
        ("", ""),
    ],
)
def test_identifier_is_spelt_as_words(name: str, words: str) -> None:
    assert identifier_words(name) == words


def test_query_terms_drop_stop_words_and_split_identifiers() -> None:
    assert query_terms("How do I use the DictReader?") == ["dictreader", "dict", "reader"]


def test_query_of_stop_words_alone_keeps_them() -> None:
    assert query_terms("what is it") == ["what", "is", "it"]


def test_query_syntax_is_not_a_term() -> None:
    assert query_terms('"name" : NEAR(* ^) -') == ["name", "near"]


@pytest.mark.parametrize(
    ("name", "doc", "summary"),
    [
        ("f", "Do it.\n\nMore.", "Do it."),
        ("m.chain", "chain(*iterables) --> chain object\n\nReturn all.", "Return all."),
        ("m.chain", "chain(*iterables) --> chain object\nReturn all\nof it.\n\nMore.", "Return all\nof it."),
        ("str.find", "S.find(sub[, start]) -> int\n\nFirst place.", "First place."),
        ("m.proxy", "proxy(object) -- create a proxy", "proxy(object) -- create a proxy"),
        ("m.f", "f() -> int", "f() -> int"),
        ("m.g", "f() -> int\n\nMore.", "f() -> int"),
        ("m.f", "\n    Indented\n    text.\n\n    More.\n    ", "Indented\n    text."),
    ],
)
def test_summary_is_the_first_paragraph_past_the_signature(name: str, doc: str, summary: str) -> None:
    start, end = summary_span(doc, name)
    assert doc[start:end] == summary


@given(st.text(alphabet="ab(). \n\t-", max_size=80))
def test_paragraphs_hold_all_that_is_not_blank(text: str) -> None:
    spans = paragraphs(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("what does json.dumps do?", {"json.dumps"}),
        ("heapq", {"heapq"}),
        ("`heapq.merge`?", {"heapq.merge"}),
        ("difference between len() and str.__len__", {"len", "str.__len__"}),
        ("how do I list files", set()),
        ("a list. Then a set.", set()),
        ("version 3.11 of 2.5", set()),
        ("", set()),
    ],
)
def test_names_that_are_given_as_names(question: str, names: set[str]) -> None:
    assert mentions(question) == names
