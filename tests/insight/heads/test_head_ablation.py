"""What heads cost is told beside what as many others of their layers do."""

from __future__ import annotations

import pytest

from cynosure.insight.heads.head_ablation import Ablator, peers
from cynosure.insight.heads.probe_tasks import Vocabulary, repeated_cases
from tests.insight.rule_model import EVEN, INDUCTION, LIKELY, LOCAL, UNLIKELY, RuleModel

CASES = repeated_cases(Vocabulary(tuple(range(100))), 8, 0)


def test_the_head_that_is_needed_costs_all() -> None:
    ablator = Ablator(RuleModel(), CASES)
    assert ablator.accuracy == 1.0
    found = ablator.compare([INDUCTION], [INDUCTION], 5, 0)
    assert found.drop == pytest.approx(LIKELY - UNLIKELY, abs=1e-5)
    assert (found.random_mean, found.random_max, found.num_random) == (0.0, 0.0, 1)
    assert found.is_confirmed
    # The control: the same question about one that does nothing.
    other = ablator.compare([EVEN], [EVEN], 5, 0)
    assert other.drop == 0.0
    assert not other.is_confirmed


def test_a_model_that_foretells_nothing_confirms_nothing() -> None:
    ablator = Ablator(RuleModel(is_able=False), CASES)
    assert ablator.accuracy == 0.0
    assert not ablator.compare([INDUCTION], [INDUCTION], 5, 0).is_confirmed


def test_others_that_are_needed_as_much_confirm_nothing() -> None:
    ablator = Ablator(RuleModel(needed=(INDUCTION, EVEN)), CASES)
    assert not ablator.compare([INDUCTION], [INDUCTION], 5, 0).is_confirmed
    # Spared ones are of the same kind: what is left comes from other layers.
    assert ablator.compare([INDUCTION], [INDUCTION, EVEN], 5, 0).is_confirmed
    alone = ablator.compare([INDUCTION], [INDUCTION, EVEN, LOCAL, (0, 0)], 5, 0)
    assert (alone.num_random, alone.is_confirmed) == (0, False)


@pytest.mark.parametrize(("heads", "count"), [([(0, 0)], 3), ([(0, 0), (0, 1)], 1), ([(0, 0), (2, 7)], 9)])
def test_peers_are_others_of_the_same_layers(heads: list[tuple[int, int]], count: int) -> None:
    found = peers(heads, heads, [4, 0, 8], 9, 0)
    assert len(found) == len(set(found)) == count
    for group in found:
        assert sorted(layer for layer, _ in group) == sorted(layer for layer, _ in heads)
        assert not set(group) & set(heads)
        assert len(set(group)) == len(heads)


def test_a_layer_without_others_takes_from_any() -> None:
    found = peers([(0, 0)], [(0, 0), (0, 1)], [2, 4], 9, 0)
    assert found
    assert {layer for group in found for layer, _ in group} == {1}
    assert peers([(0, 0), (0, 1)], [], [2, 1], 9, 0) == []
