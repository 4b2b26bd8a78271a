"""Offsets of a text and of what is shown of it are each other's images, marks counted whole."""

from __future__ import annotations

import pytest

from cynosure.guard import Action, Places, Rules, check
from tests.guard import cases

TEXT = f"mail {cases.EMAIL}, card {cases.CARD}. End"
RULES = Rules.every(Action.REDACT)


def places() -> tuple[str, Places]:
    decision = check(TEXT, RULES)
    assert decision.text == "mail [email], card [card]. End"
    return decision.text, Places(decision.findings)


@pytest.mark.parametrize(
    "words", ["mail", ", card ", "End", "[email]", "[card]", "[email], card [card]. End"]
)
def test_a_span_goes_there_and_back(words: str) -> None:
    shown, both = places()
    start = shown.index(words)
    span = (start, start + len(words))
    original = TEXT[slice(*both.original(span))]
    plain = original.replace(cases.EMAIL, "[email]").replace(cases.CARD, "[card]")
    assert plain == words
    assert both.shown(both.original(span)) == span


def test_whatever_touches_a_mark_covers_it() -> None:
    shown, both = places()
    mark, email = shown.index("[email]"), TEXT.index(cases.EMAIL)
    whole = (email, email + len(cases.EMAIL))
    for start, end in ((0, 1), (2, 4), (3, 7)):
        assert both.original((mark + start, mark + end)) == whole
    for start, end in ((0, 1), (2, 4), (0, len(cases.EMAIL))):
        assert both.shown((email + start, email + end)) == (mark, mark + len("[email]"))
    assert both.original((mark - 1, mark + 1)) == (email - 1, whole[1])


def test_every_span_of_a_text_without_findings_stays() -> None:
    both = Places(check("plain words", RULES).findings)
    for start in range(11):
        for end in range(start, 11):
            assert both.shown((start, end)) == both.original((start, end)) == (start, end)


def test_what_is_allowed_moves_nothing() -> None:
    both = Places(check(TEXT, Rules.every(Action.ALLOW)).findings)
    assert both.shown((0, len(TEXT))) == (0, len(TEXT))
