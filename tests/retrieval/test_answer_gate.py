"""Test the logistic function that decides whether anything answers."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from cynosure.retrieval import FILE_GATE, GATE, Gate
from cynosure.retrieval.answer_gate import Signs
from cynosure.retrieval.rank import LINE

NONE = Signs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_gate_is_a_logistic_function_of_every_sign() -> None:
    gate = Gate(1.0, 2.0, -4.0, 8.0, 16.0, rarity=-2.0, bias=-1.0)
    assert gate.chance(replace(NONE, relevant=1.0)) == LINE
    signs = Signs(0.5, 0.25, 0.125, 0.5, 0.0625, 0.5)
    assert gate.chance(signs) == pytest.approx(1 / (1 + 2.718281828 ** -(0.5 + 0.5 - 0.5 + 4 + 1 - 1 - 1)))
    for name in (one.name for one in fields(Signs)):
        more = gate.chance(replace(NONE, **{name: 1.0}))
        assert (more > gate.chance(NONE)) is (name not in {"no_answer", "rarity"})


def test_no_sign_is_too_large() -> None:
    for value in (1e6, -1e6):
        chances = GATE.chance(replace(NONE, relevant=value)), GATE.chance(replace(NONE, no_answer=value))
        assert all(0 <= chance <= 1 for chance in chances)


@pytest.mark.parametrize("gate", [GATE, FILE_GATE])
def test_what_was_fitted_has_both_sides(gate: Gate) -> None:
    assert gate.chance(Signs(8.0, 6.0, -8.0, 0.8, 20.0, 0.05)) > 0.9
    assert gate.chance(Signs(-8.0, -8.0, 6.0, 0.1, 0.0, 0.9)) < 0.1


def test_no_score_of_the_search_counts_for_files() -> None:
    assert (FILE_GATE.fused, FILE_GATE.rarity) == (0.0, 0.0)
