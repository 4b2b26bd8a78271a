"""Focus on trusted instructions: what its numbers are, by shares and by weights, and where there is none."""

from __future__ import annotations

import math

import pytest

from cynosure.core.errors import InputError
from cynosure.insight import HeadChoice, HeadGroup, PromptPart, PromptSegments, Reading, TokenShares
from cynosure.insight.focus_rule import FocusRule, stricter
from cynosure.insight.heads.profile_choice import choice_of
from cynosure.insight.judging.focus import FOCUS, FocusModel, FocusTally, focus_model_of, is_divided
from cynosure.insight.profile import HeadProfile

MODEL = FocusModel(heads=((0, 1), (1, 0)), weights=(2.0, -1.0), intercept=0.5, threshold=0.4)
ROLES = ("system", "document", "user", "tool")


def profile_of(model: FocusModel = MODEL) -> HeadProfile:
    return HeadProfile("f00d", "tiny", (2, 2), {}, {FOCUS: model.as_json()})


def reading(roles: tuple[str, ...] = ROLES, profile: HeadProfile | None = None) -> Reading:
    parts = [PromptPart(f"{role}:0", role, role) for role in roles]
    segments = PromptSegments.of(parts, [None, *range(len(roles))], [None] * (len(roles) + 1))
    choice = None if profile is None else choice_of(profile)
    return Reading(segments, choice or HeadChoice(((0, 0),), "of a test"), (2, 2), profile=profile)


def shares(*masses: float) -> TokenShares:
    return TokenShares(masses, 0.1, 0.0, 0.9 - sum(masses), 1.0)


def test_plain_focus_is_the_trusted_share_of_trusted_and_untrusted() -> None:
    tally = FocusTally(reading())
    assert tally.focus is None
    tally.add(shares(0.3, 0.1, 0.1, 0.0))
    tally.add(shares(0.1, 0.1, 0.0, 0.3))
    focus = tally.focus
    assert focus is not None
    assert focus.value == pytest.approx(0.5)
    assert (focus.attended_to, focus.is_fitted) == ("tool:0", False)
    assert focus.share == pytest.approx(0.3)


def test_what_attends_to_neither_attends_to_nothing_untrusted() -> None:
    tally = FocusTally(reading())
    tally.add(shares(0.0, 0.0, 0.0, 0.0))
    assert tally.focus is not None
    assert tally.focus.value == 1.0


def test_without_an_untrusted_part_there_is_no_focus() -> None:
    whole = reading(("system", "user"))
    tally = FocusTally(whole)
    tally.add(shares(0.3, 0.1))
    assert tally.focus is None
    assert not is_divided(whole.segments)
    assert is_divided(reading().segments)


def test_a_part_without_tokens_divides_nothing() -> None:
    parts = [PromptPart("system", "system", "system"), PromptPart("doc:0", "doc:0", "document")]
    assert not is_divided(PromptSegments.of(parts, [None, 0], [None, None]))


def test_a_profile_s_weights_make_it() -> None:
    known = reading(profile=profile_of())
    assert known.choice.groups == (HeadGroup(FOCUS, (2.0, -1.0)),)
    # Of each part: sink, template, the caller's four, and what was generated.
    first = (0.1, 0.0, 0.8, 0.3, 0.1, 0.1, 9.0)
    second = (0.1, 0.0, 0.2, 0.5, 0.1, 0.3, 9.0)
    tally = FocusTally(known)
    for fold in (first, second):
        tally.add(shares(0.2, 0.2, 0.2, 0.2), (fold,))
    logit = 0.5 + ((0.9 - 0.4) + (0.3 - 0.8)) / 2
    assert tally.focus is not None
    assert tally.focus.is_fitted
    assert tally.focus.value == pytest.approx(1 / (1 + math.exp(-logit)))


def test_heads_that_are_not_the_profile_s_give_plain_focus() -> None:
    known = Reading(reading().segments, HeadChoice(((0, 0),), "named"), (2, 2), profile=profile_of())
    tally = FocusTally(known)
    tally.add(shares(0.3, 0.1, 0.0, 0.0))
    assert tally.focus is not None
    assert not tally.focus.is_fitted
    assert tally.focus.value == pytest.approx(0.75)


def test_no_weight_is_so_large_that_it_overflows() -> None:
    assert MODEL.focus_of(-1e6) == 0.0
    assert MODEL.focus_of(1e6) == 1.0


def test_a_section_comes_back_as_it_was_written() -> None:
    assert focus_model_of(profile_of()) == MODEL
    assert focus_model_of(None) is None
    assert focus_model_of(HeadProfile("f00d", "tiny", (2, 2), {}, {})) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": [1.0]},
        {"heads": [], "weights": []},
        {"heads": [[1, 0], [0, 1]]},
        {"threshold": 1.5},
        {"intercept": math.nan},
        {"more": 1},
    ],
)
def test_what_is_no_section_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="section of focus is not usable"):
        FocusModel.of_json(MODEL.as_json() | wrong)


def test_a_request_may_ask_for_more_and_for_no_less() -> None:
    server = FocusRule(0.4, passes_unwatched=True)
    assert stricter(None, None) is None
    assert stricter(server, None) is server
    assert stricter(None, 0.3) == FocusRule(0.3)
    assert stricter(server, 0.3) == FocusRule(0.4)
    assert stricter(server, 0.6) == FocusRule(0.6)
    with pytest.raises(InputError, match="from 0 to 1"):
        FocusRule(1.2)
