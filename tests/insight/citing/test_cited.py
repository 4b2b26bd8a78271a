"""What is audited is what answers cite, as the weights of the profile say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cynosure.insight import HeadProfile
from cynosure.insight.citing.citation_weights import SECTION, CitationWeights
from cynosure.insight.citing.cited import Cited, cited_in, most_attended, token_span
from tests.insight.audit_cases import HEADS, reading, report, two_sentences

WEIGHTS = CitationWeights(HEADS, (1.0, 0.5), -4.0, 10.0, 0.0, 0.5, 1.0, "a test")
PROFILE = HeadProfile("print", "m", (1, 2), {}, {SECTION: WEIGHTS.as_json()})
#: Sink and template come before the caller's parts.
FIRST, SECOND, THIRD, FOURTH = 2, 3, 4, 5


def test_what_was_attended_to_most_is_cited_by_nobody_without_weights() -> None:
    one, two = most_attended(two_sentences())
    assert (one.first, one.end, one.part, two.first, two.end, two.part) == (0, 2, FIRST, 2, 4, THIRD)
    assert one.score == pytest.approx(0.6)
    assert dict(one.uncited) == pytest.approx({SECOND: 0.1, THIRD: 0.0, FOURTH: 0.0})
    assert cited_in(two_sentences()) == []


def test_with_weights_it_is_what_they_cite() -> None:
    found = cited_in(two_sentences(reading(PROFILE)))
    assert [(one.first, one.end, one.part) for one in found] == [(0, 2, FIRST), (2, 4, THIRD)]
    assert all(one.score >= 0.5 > max(score for _, score in one.uncited) for one in found)
    assert found[0].score == pytest.approx(WEIGHTS.chances(np.array([1.2, 0.2, 0.0, 0.0]))[0])


def test_where_nothing_is_likely_enough_nothing_is_audited() -> None:
    told = report(["nobody."], [(0.1, 0.1, 0.1, 0.1, 0.1, 0.0)], reading(PROFILE))
    assert cited_in(told) == []


def test_what_is_cited_too_is_no_part_to_compare_with() -> None:
    """Two documents tell the same: taking either away shows little."""
    both = (0.6, 0.7, 0.0, 0.0, 0.1, 0.0)
    (one,) = cited_in(report(["ann", "does."], [both, both], reading(PROFILE)))
    assert one.part == SECOND
    assert {part for part, _ in one.uncited} == {THIRD, FOURTH}


def test_heads_that_the_weights_are_not_of_cite_nothing() -> None:
    assert cited_in(two_sentences(reading(PROFILE, group="retrieval"))) == []


def test_a_token_belongs_where_its_word_begins() -> None:
    told = two_sentences()
    assert told.text == "ann does. cas not."
    assert token_span(told, (0, 9)) == (0, 2)
    assert token_span(told, (10, 18)) == (2, 4)
    assert token_span(told, (4, 5)) == (1, 2)
    assert token_span(told, (18, 20)) is None


def test_tokens_that_nobody_watched_are_of_no_account() -> None:
    told = two_sentences()
    blind = replace(told, tokens=tuple(replace(token, shares=None) for token in told.tokens))
    assert most_attended(blind) == []
    half = replace(told, tokens=(*blind.tokens[:2], *told.tokens[2:]))
    assert [one.part for one in most_attended(half)] == [THIRD]
    assert isinstance(most_attended(half)[0], Cited)
