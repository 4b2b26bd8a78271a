"""What is fitted to ablations says with which chance a source mattered, and cites none where none did."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.core.errors import InputError
from cynosure.insight.citing.citation_fit import CitationFit, fit_citations
from cynosure.insight.citing.citation_weights import CitationWeights
from tests.insight.reading_models import READER, ReadingModel, answer_of, answers

MODEL = ReadingModel()


def fitted(**options: int) -> CitationWeights:
    recipe = CitationFit(num_ablations=12, **options)
    return fit_citations(MODEL, answers(12), answers(20), "made-up answers", recipe)


def test_the_source_of_an_answer_has_the_largest_chance() -> None:
    weights = fitted()
    places = [place for place, head in enumerate(weights.heads) if head == READER]
    score = 3.6 * weights.weights[places[0]]
    chances = weights.chances(np.array([0.0, score, 0.0]))
    assert chances.argmax() == 1
    assert chances[1] > max(0.5, weights.min_score) > chances[0]
    assert weights.fitted_on == "made-up answers"


def test_nothing_is_cited_where_nothing_was_looked_at() -> None:
    weights = fitted()
    assert weights.chances(np.zeros(4)).max() < weights.min_score


def test_few_heads_may_have_a_weight() -> None:
    assert fitted(max_heads=1).heads == (READER,)


def test_a_model_that_answers_from_nowhere_teaches_nothing() -> None:
    idle = [answer_of(-1, 3)] * 3
    with pytest.raises(InputError, match="0 matter to this model by 1 nats"):
        fit_citations(MODEL, answers(8), idle, "", CitationFit(num_ablations=4))


def test_it_is_told_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    fit_citations(
        MODEL, answers(4), answers(5), "", CitationFit(num_ablations=4), lambda *one: told.append(one)
    )
    assert told[3] == ("Denying random sources", 4, 4)
    assert told[-1] == ("Denying each source", 5, 5)
