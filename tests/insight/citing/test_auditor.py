"""One citation is drawn and set against a part of like size; what is denied fits what the caller weighed."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from cynosure.core.errors import InputError
from cynosure.insight import AttentionReport
from cynosure.insight.citing.auditor import (
    MIN_EFFECT_NATS,
    Audit,
    AuditCase,
    AuditorSettings,
    planned,
    runs_of,
    with_denied,
)
from cynosure.insight.citing.cited import most_attended
from tests.insight.audit_cases import denying, report, segments, two_sentences
from tests.insight.citing.test_cited import FIRST, FOURTH, SECOND, THIRD

DENIED = -math.inf


def cases(told: AttentionReport, count: int = 400) -> Counter[tuple[int, int]]:
    dice = random.Random(0)
    return Counter((one.cited, one.other) for _ in range(count) if (one := plan(told, dice)) is not None)


def plan(told: AttentionReport, dice: random.Random) -> AuditCase | None:
    return planned(told, most_attended(told), dice)


def test_each_citation_and_each_part_of_like_size_has_its_turn() -> None:
    """The fourth document is longer than twice the others."""
    found = cases(two_sentences())
    pairs = {(FIRST, SECOND), (FIRST, THIRD), (THIRD, FIRST), (THIRD, SECOND)}
    assert set(found) == pairs
    assert all(count == pytest.approx(100, abs=40) for count in found.values())


def test_the_scores_are_those_of_its_parts() -> None:
    case = plan(two_sentences(), random.Random(3))
    assert case is not None
    cited = {one.part: one for one in most_attended(two_sentences())}[case.cited]
    assert (case.first, case.end, case.score) == (cited.first, cited.end, cited.score)
    assert case.other_score == dict(cited.uncited)[case.other]


def test_the_same_seed_draws_the_same() -> None:
    told = two_sentences()
    assert plan(told, random.Random(7)) == plan(told, random.Random(7))


def test_nothing_of_like_size() -> None:
    fourth = (0.0, 0.0, 0.0, 0.6, 0.1, 0.0)
    assert plan(report(["dan", "does."], [fourth, fourth]), random.Random(0)) is None
    assert planned(two_sentences(), [], random.Random(0)) is None


def test_what_the_caller_denied_is_not_compared_with() -> None:
    """Nor audited, where the cited part is denied itself."""
    runs = {part: runs_of(segments(), part)[0] for part in (FIRST, SECOND)}
    assert set(cases(denying(two_sentences(), *runs[SECOND]))) == {(FIRST, THIRD), (THIRD, FIRST)}
    assert set(cases(denying(two_sentences(), *runs[FIRST]))) == {(THIRD, SECOND)}


def test_what_the_answer_goes_on_from_can_not_be_denied() -> None:
    told = two_sentences()
    cut = segments().owners[:10]
    short = replace(told, reading=replace(told.reading, segments=replace(segments(), owners=cut)))
    assert cut[-1] == THIRD
    assert {other for _, other in cases(short)} == {SECOND}


@pytest.mark.parametrize(
    ("bias", "runs", "expected"),
    [
        ((), [(1, 4)], ((1, 4, DENIED),)),
        (((5, 7, 1.0),), [(1, 4)], ((1, 4, DENIED), (5, 7, 1.0))),
        (((2, 7, 1.0),), [(1, 4)], ((1, 4, DENIED), (4, 7, 1.0))),
        (((0, 9, 1.0),), [(1, 4)], ((0, 1, 1.0), (1, 4, DENIED), (4, 9, 1.0))),
        (((2, 8, 1.0),), [(1, 4), (6, 7)], ((1, 4, DENIED), (4, 6, 1.0), (6, 7, DENIED), (7, 8, 1.0))),
        (((2, 3, 1.0), (3, 6, 2.0)), [(1, 4)], ((1, 4, DENIED), (4, 6, 2.0))),
        (((1, 4, DENIED),), [], ((1, 4, DENIED),)),
    ],
)  # fmt: skip
def test_denials_go_over_what_is_weighed(bias: tuple, runs: list, expected: tuple) -> None:
    assert with_denied(bias, runs) == expected


def test_a_citation_holds_where_it_matters_more() -> None:
    case = AuditCase(0, 2, FIRST, FOURTH, 0.9, 0.1)
    assert Audit(case, 2.0, 1.0).is_held
    assert not Audit(case, 1.0, 2.0).is_held
    # What rounding makes of two that matter to nobody is no proof.
    assert not Audit(case, MIN_EFFECT_NATS / 2, 0.0).is_held


@pytest.mark.parametrize(("field", "value"), [("share", 0.0), ("share", 1.5), ("floor", 1.0), ("alpha", 0.0)])
def test_settings_out_of_range(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        AuditorSettings(**{field: value})
