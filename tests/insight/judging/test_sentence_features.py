"""The numbers of a sentence, by hand; strings that are told by sentence stay one document."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cynosure.insight import PromptPart, PromptSegments
from cynosure.insight.judging.sentence_features import FITTED, RETRIEVED, given_documents, sentence_features

TEXT = "One is first. Two is second."
PARTS = [
    PromptPart("system", "system", "system", text="Be brief.", start=0, end=9),
    PromptPart("doc:1", "doc:1", "document", 1, 0, TEXT, 0, len(TEXT)),
    PromptPart("doc:2", "doc:2", "document", 1, 1, "Three.", 0, 6),
    PromptPart("doc:3", "doc:3", "document", 1, 2, "", 0, 0),
    PromptPart("user:0", "user:0", "user", text="Which?", start=0, end=6),
]
SEGMENTS = PromptSegments.of(
    PARTS,
    [None, 0, *[1] * 8, 2, 4, None],
    [None, (0, 9), *[(place, place + 1) for place in (0, 4, 7, 12, 14, 18, 21, 27)], (0, 6), (0, 6), None],
)
#: Sink, template, system, doc:1, doc:2, doc:3, user and what was generated.
RISK = np.array([[0.1, 0.0, 0.0, 0.5, 0.1, 0.0, 0.2, 0.1], [0.0, 0.0, 0.2, -0.2, 0.0, 0.0, 0.3, 0.3]])
RETRIEVAL = np.array([[0.1, 0.0, 0.0, 0.6, 0.1, 0.0, 0.1, 0.1], [0.5, 0.0, 0.0, 0.2, 0.1, 0.0, 0.1, 0.1]])


def test_what_can_be_stood_on() -> None:
    # A part without tokens was given nobody.
    assert given_documents(SEGMENTS) == ((3,), (4,))


def test_title_and_text_are_one_document() -> None:
    title = PromptPart("doc:1.title", "doc:1", "document", text="On stars", start=0, end=8)
    owners = [None, 5, 0, 1, 2]
    known = PromptSegments.of([*PARTS, title], owners, [None, (0, 8), (0, 9), (0, 3), (0, 6)])
    assert given_documents(known) == ((3, 7), (4,))


def test_the_fitted_fold() -> None:
    told = dict(zip(FITTED, sentence_features(given_documents(SEGMENTS), RISK, None), strict=True))
    assert told == pytest.approx({"lookback": 0.2, "lookback_peak": 0.6, "generated": 0.2})


def test_heads_that_retrieve() -> None:
    told = sentence_features(given_documents(SEGMENTS), RISK, RETRIEVAL)
    named = dict(zip(FITTED + RETRIEVED, told, strict=True))
    shares = (0.8, 0.2)
    spread = -sum(one * math.log2(one) for one in shares)
    assert named["hits"] == 0.5
    assert named["hit_peak"] == pytest.approx(0.6)
    assert named["spread"] == pytest.approx(spread)


def test_one_document_is_not_spread_nor_is_nothing() -> None:
    one = sentence_features([(3,)], RISK, RETRIEVAL)
    none = sentence_features([(3,), (4,)], RISK, np.eye(8)[[7, 0]])
    assert one[-1] == none[-1] == 0


def test_cut_into_sentences_it_is_the_same() -> None:
    cut = SEGMENTS.by_sentence(4, 100)
    documents = given_documents(cut)
    assert documents == ((3, 4), (5,))
    # What was one part's is two parts' now.
    halves = [np.insert(fold, 3, fold[:, 3] / 4, axis=1) for fold in (RISK, RETRIEVAL)]
    for half, whole in zip(halves, (RISK, RETRIEVAL), strict=True):
        half[:, 4] = whole[:, 3] * 3 / 4
    told = sentence_features(documents, *halves)
    np.testing.assert_allclose(
        told, sentence_features(given_documents(SEGMENTS), RISK, RETRIEVAL), atol=1e-12
    )
