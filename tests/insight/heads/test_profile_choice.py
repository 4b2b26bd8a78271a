"""A profile chooses the heads that it gives a weight, and each section folds with its own."""

from __future__ import annotations

import pytest

from cynosure.core.errors import ProfileError
from cynosure.insight.heads.profile_choice import MAX_CHOSEN, choice_of
from cynosure.insight.profile import HeadProfile


def profile(**sections: object) -> HeadProfile:
    return HeadProfile("ab" * 32, "tiny", (16,) * 8, {}, sections)


def kind(*heads: tuple[int, int], confirmed: bool = True) -> dict[str, object]:
    return {"heads": [list(head) for head in heads], "confirmed": confirmed}


def test_groups_are_over_the_union_of_heads() -> None:
    found = choice_of(
        profile(
            kinds={"induction": kind((3, 1), (2, 0)), "retrieval": kind((3, 1)), "sink": kind((0, 0))},
            citations={"heads": [[5, 2], [2, 0], [1, 1]], "weights": [0.5, -2.0, 0.0]},
            risk={"heads": [[7, 15]], "weights": [3]},
            notes={"text": "no heads here"},
            dead={"heads": [[6, 6]], "weights": [0.0]},
        )
    )
    assert found is not None
    assert found.heads == ((2, 0), (3, 1), (5, 2), (7, 15))
    assert {group.name: group.weights for group in found.groups} == {
        "retrieval": (0.0, 1.0, 0.0, 0.0),
        "induction": (0.5, 0.5, 0.0, 0.0),
        "citation": (-2.0, 0.0, 0.5, 0.0),
        "risk": (0.0, 0.0, 0.0, 3.0),
    }
    assert found.reason.startswith("head profile tiny (")
    assert "4 heads: retrieval 1, induction 2, citation 2, risk 1" in found.reason


def test_what_is_not_confirmed_chooses_nothing() -> None:
    assert choice_of(profile()) is None
    assert choice_of(profile(kinds={"induction": kind((1, 1), confirmed=False)})) is None
    # Sinks and local heads are told, and not watched.
    assert choice_of(profile(kinds={"sink": kind((1, 1)), "local": kind((1, 2))})) is None
    assert choice_of(profile(kinds={"induction": kind((1, 1))})) is not None


def test_kinds_give_way_and_what_was_fitted_stays_whole() -> None:
    every = [(layer, head) for layer in range(8) for head in range(16)]
    fitted = [list(head) for head in every[: MAX_CHOSEN - 2]]
    found = choice_of(
        profile(
            kinds={"induction": kind((7, 3), (7, 1), (7, 2), (0, 0))},
            citations={"heads": fitted, "weights": [1.0] * len(fitted)},
        )
    )
    assert found is not None
    assert len(found.heads) == MAX_CHOSEN
    assert set(found.heads) - set(every[: MAX_CHOSEN - 2]) == {(7, 3), (7, 1)}
    by_name = {group.name: group.weights for group in found.groups}
    # One that is watched anyway costs nothing.
    assert sum(weight > 0 for weight in by_name["induction"]) == 3
    assert sum(by_name["induction"]) == pytest.approx(1.0)
    heads = [list(head) for head in every[: MAX_CHOSEN + 1]]
    with pytest.raises(ProfileError, match=f"{MAX_CHOSEN + 1} heads; the limit is {MAX_CHOSEN}"):
        choice_of(profile(citations={"heads": heads, "weights": [1.0] * len(heads)}))
