"""Sentences cite the parts that weighted heads looked at, and none where none was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
)
from cynosure.insight.citing.citation_weights import CitationWeights
from cynosure.insight.citing.citations import (
    Citation,
    CitationReader,
    CitationRule,
    citable_parts,
    citations_of,
    is_watched,
)
from cynosure.insight.profile import HeadProfile

PARTS = [
    PromptPart("system", "system", "system"),
    PromptPart("doc:1", "doc:1", "document"),
    PromptPart("doc:2", "doc:2", "document"),
    PromptPart("tool:0", "tool:0", "tool"),
    PromptPart("user:0", "user:0", "user"),
    PromptPart("doc:3", "doc:3", "document"),
]
#: Sink, template, then the parts; `doc:3` was dropped by the template.
SEGMENTS = PromptSegments.of(PARTS, [None, 0, 1, 2, 3, 4, None], [None] * 7)
HEADS = ((0, 1), (2, 0), (2, 3))
CHOICE = HeadChoice(
    HEADS, "a profile", (HeadGroup("other", (1.0, 1.0, 1.0)), HeadGroup("citation", (0.0, 1.0, 2.0)))
)
WEIGHTS = CitationWeights(((2, 0), (2, 3)), (1.0, 2.0), -4.0, 2.0, 0.0, 0.5, 1.0, "made-up answers")
PROFILE = HeadProfile("f", "p", (4, 4, 4), {}, {"citations": WEIGHTS.as_json()})
READING = Reading(SEGMENTS, CHOICE, (4, 4, 4), profile=PROFILE)
RULE = CitationRule.usual(WEIGHTS)

#: What parts get: sink, template, system, doc:1, doc:2, tool:0, user:0, doc:3, and what was generated.
NOTHING = (0.5, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0, 9.0, 0.0)
FIRST = (0.0, 0.0, 9.0, 1.2, 0.1, 0.0, 9.0, 9.0, 0.0)
BOTH = (0.0, 0.0, 9.0, 1.5, 0.1, 1.1, 9.0, 9.0, 0.0)


def tokens(*read: tuple[str, tuple[float, ...] | None]) -> list[ReadToken]:
    told, start = [], 0
    for text, fold in read:
        told.append(ReadToken(7, text, start, folds=() if fold is None else (NOTHING, fold)))
        start += len(text)
    return told


ANSWER = tokens(("Red", FIRST), (" fox.", FIRST), (" It", NOTHING), (" is.", NOTHING), (" Two.", BOTH))
TEXT = "Red fox. It is. Two."


def cited(read: list[ReadToken], text: str = TEXT, rule: CitationRule = RULE) -> tuple[Citation, ...]:
    return CitationReader(rule, READING).citations(read, text)


def test_documents_and_tools_that_were_read_can_be_cited() -> None:
    assert [SEGMENTS.parts[part].id for part in citable_parts(SEGMENTS)] == ["doc:1", "doc:2", "tool:0"]


def test_each_sentence_cites_what_it_looked_at() -> None:
    first, *last = cited(ANSWER)
    # Two tokens gave it 1.2 each: 1 / (1 + exp(4 - 2 * 2.4)).
    assert (first.start, first.end, first.part) == (0, 8, 3)
    assert first.score == pytest.approx(0.69, abs=0.01)
    assert all((one.start, one.end) == (16, 20) for one in last)


def test_nothing_is_cited_where_nothing_fits() -> None:
    assert not any(one.start == 9 for one in cited(ANSWER))
    assert cited(ANSWER, rule=replace(RULE, min_score=0.99)) == ()


def test_the_best_comes_first_and_no_more_than_asked() -> None:
    rule = replace(RULE, min_score=0.1)
    assert [one.part for one in cited(ANSWER, rule=rule) if one.start == 16] == [3, 5]
    assert [one.part for one in cited(ANSWER, rule=replace(rule, max_per_sentence=1))] == [3, 3]


def test_a_space_before_a_word_is_the_next_sentence_s() -> None:
    spaced = tokens(("Red", NOTHING), (".", NOTHING), (" Two", BOTH), (" more", BOTH))
    assert {one.start for one in cited(spaced, "Red. Two more")} == {5}


def test_a_sentence_that_was_not_watched_whole_cites_nothing() -> None:
    assert cited(tokens(("Red", BOTH), (" fox.", None)), "Red fox.") == ()


def report(read: list[ReadToken], reading: Reading = READING) -> AttentionReport:
    return AttentionReport("r", 0, "t", "m", "/", 0.0, reading, (1,) * 7, tuple(read), "stop")


def test_a_report_is_cited_by_its_profile() -> None:
    assert citations_of(report(ANSWER)) == cited(ANSWER)
    assert citations_of(report(ANSWER, replace(READING, profile=None))) == ()


def test_other_heads_than_those_of_the_fit_cite_nothing() -> None:
    for groups in ((), (HeadGroup("citation", (0.0, 1.0, 1.0)),), (HeadGroup("other", (0.0, 1.0, 2.0)),)):
        choice = replace(CHOICE, groups=groups)
        assert not is_watched(WEIGHTS, choice)
        assert citations_of(report(ANSWER, replace(READING, choice=choice))) == ()
    assert is_watched(WEIGHTS, CHOICE)


def test_of_a_whole_document_the_best_sentence_stands_for_it() -> None:
    text = "Red fox. Blue fox."
    cut = [
        replace(PARTS[1], id="doc:1#0", text=text, start=0, end=9),
        replace(PARTS[1], id="doc:1#1", text=text, start=9, end=18),
        PARTS[2],
    ]
    segments = PromptSegments.of(cut, [None, 0, 1, 2, None], [None] * 5)
    reading = replace(READING, segments=segments)
    read = tokens(("Red.", (0.0, 0.0, 1.0, 3.0, 2.0, 0.0)))
    by_sentence, whole = (
        [
            one.part
            for one in CitationReader(replace(RULE, min_score=0.0, is_whole=is_whole), reading).citations(
                read, "Red."
            )
        ]
        for is_whole in (False, True)
    )
    assert by_sentence == [3, 4, 2]
    assert whole == [3, 4]
