"""Each kind is found where a head follows its rule, and confirmed where the model needs it."""

from __future__ import annotations

import pytest

from cynosure.core.errors import InputError, ProfileError
from cynosure.insight.heads.head_kinds import (
    ALIGNMENT,
    INDUCTION,
    LOCAL,
    QUICK,
    RETRIEVAL,
    SINK,
    ProbeRecipe,
    find_kinds,
)
from cynosure.insight.heads.kind_finding import KindFinding
from cynosure.insight.heads.probe_tasks import Vocabulary, copied_case
from tests.insight import rule_model
from tests.insight.rule_model import EVEN, RuleModel

WORDS = Vocabulary(tuple(range(100)))


def kinds(model: RuleModel) -> dict[str, KindFinding]:
    return find_kinds(model, WORDS, QUICK)


def test_every_kind_finds_its_head() -> None:
    found = kinds(RuleModel())
    assert {kind: finding.status for kind, finding in found.items()} == {
        SINK: "found",
        LOCAL: "found",
        INDUCTION: "confirmed",
        RETRIEVAL: "confirmed",
        ALIGNMENT: "not probed",
    }
    assert found[SINK].heads == (rule_model.SINK,)
    assert found[LOCAL].heads == (rule_model.LOCAL,)
    assert found[INDUCTION].heads == found[RETRIEVAL].heads == (rule_model.INDUCTION,)
    told = found[INDUCTION]
    assert told.ablation is not None
    assert told.drops[0] == pytest.approx(told.ablation.drop)
    assert "as many others 0.00" in told.reason
    assert told.accuracy == 1.0
    assert found[SINK].reason.endswith("(the least is 0.05)")


def test_heads_without_a_rule_are_nothing() -> None:
    found = kinds(RuleModel(rules=(EVEN,) * 4, is_able=False))
    assert {finding.status for finding in found.values()} == {"not found", "not probed"}
    told = found[INDUCTION]
    assert (told.heads, told.scores, told.drops, told.ablation) == ((), (), (), None)
    assert told.best is not None
    assert told.reason.startswith("the highest score, of head ")


def test_a_head_that_looks_there_and_is_not_needed_is_not_confirmed() -> None:
    assert kinds(RuleModel(needed=()))[INDUCTION].status == "found"
    assert kinds(RuleModel(needed=(rule_model.INDUCTION, EVEN)))[INDUCTION].status == "found"


def test_what_looks_at_content_is_looked_for_where_all_is_seen() -> None:
    found = kinds(RuleModel(full_layers=(0,)))
    assert found[INDUCTION].status == "not found"
    assert kinds(RuleModel(full_layers=()))[RETRIEVAL].status == "not probed"
    assert kinds(RuleModel(full_layers=()))[SINK].status == "found"


def test_needles_of_ones_own_take_the_place_of_others() -> None:
    own = [copied_case([*range(10, 20), 40 + at, 3, 40 + at], [3, 7], 0, 1) for at in range(8)]
    needles = [one for one in own if one is not None]
    found = find_kinds(RuleModel(), WORDS, QUICK, needles=needles)
    assert found[RETRIEVAL].num_cases == len(needles) == 8
    assert found[RETRIEVAL].heads == (rule_model.INDUCTION,)
    assert found[INDUCTION] == kinds(RuleModel())[INDUCTION]


def test_a_finding_is_read_as_it_was_written() -> None:
    for kind, finding in kinds(RuleModel()).items():
        written = finding.as_json()
        assert written["confirmed"] is (finding.status == "confirmed")
        assert KindFinding.of_json(kind, written) == finding
    with pytest.raises(ProfileError, match="'sink' heads can't be read"):
        KindFinding.of_json("sink", {"status": "found"})
    with pytest.raises(ProfileError, match="can't be read"):
        KindFinding.of_json("sink", kinds(RuleModel())[SINK].as_json() | {"more": 1})


@pytest.mark.parametrize("given", [{"num_cases": 3}, {"num_draws": 19}, {"num_random": 2}, {"max_heads": 0}])
def test_too_few_tell_nothing(given: dict[str, int]) -> None:
    with pytest.raises(InputError, match="Raise it"):
        ProbeRecipe(**given)
