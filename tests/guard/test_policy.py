"""Rules decide, the stricter one wins, and what is misspelt is refused."""

from __future__ import annotations

import pytest

from cynosure.core.errors import InputError, UnknownOption
from cynosure.guard import Action, CallRules, Kind, Policy, Rules, check, count_kinds, read_policy
from cynosure.guard.kinds import Span
from cynosure.guard.policy import settle_overlaps
from tests.guard import cases

TEXT = f"{cases.EMAIL} and {cases.CARD}"


@pytest.mark.parametrize(
    ("rules", "action", "text"),
    [
        (Rules.every(Action.ALLOW), Action.ALLOW, TEXT),
        (Rules(), Action.REDACT, f"{cases.EMAIL} and [card]"),
        (Rules.every(Action.REDACT), Action.REDACT, "[email] and [card]"),
        (Rules(card=Action.BLOCK, email=Action.REDACT), Action.BLOCK, "[email] and "),
        (Rules.every(Action.BLOCK), Action.BLOCK, ""),
    ],
)
def test_a_decision_follows_its_rules(rules: Rules, action: Action, text: str) -> None:
    decision = check(TEXT, rules)
    assert (decision.action, decision.text) == (action, text)


def test_what_is_allowed_is_reported_and_left() -> None:
    decision = check(TEXT, Rules.every(Action.ALLOW))
    assert decision.counts == {"card": 1, "email": 1}
    assert [TEXT[f.start : f.end] for f in decision.findings] == [cases.EMAIL, cases.CARD]


def test_nothing_found_is_allowed() -> None:
    for text in ("", " \n", "plain words"):
        decision = check(text, Rules.every(Action.BLOCK))
        assert (decision.action, decision.findings, decision.text) == (Action.ALLOW, (), text)


def test_an_allowed_kind_shields_no_other() -> None:
    url = "https://app:s3cr3t@Pa55.example.org/"
    allowed = check(url, Rules(secret=Action.ALLOW, email=Action.REDACT))
    assert "[email]" in allowed.text or allowed.text != url
    spans = [Span(Kind.SECRET, 0, 20, "a"), Span(Kind.EMAIL, 5, 15, "b")]
    rules = Rules(secret=Action.ALLOW, email=Action.REDACT)
    assert [finding.kind for finding in settle_overlaps(spans, rules.by_kind())] == [Kind.EMAIL]
    assert [finding.kind for finding in settle_overlaps(spans, Rules().by_kind())] == [Kind.SECRET]


def test_overlaps_are_settled_by_sureness_and_then_by_length() -> None:
    spans = [
        Span(Kind.PHONE, 0, 12, "p"),
        Span(Kind.CARD, 4, 20, "c"),
        Span(Kind.IBAN, 2, 24, "i"),
        Span(Kind.PHONE, 30, 40, "short"),
        Span(Kind.PHONE, 30, 45, "long"),
    ]
    found = settle_overlaps(spans, Rules.every(Action.REDACT).by_kind())
    assert [finding.rule for finding in found] == ["i", "long"]


def test_counts_hold_no_text() -> None:
    findings = check(f"{TEXT} {cases.EMAIL}", Rules()).findings
    assert count_kinds(findings) == {"card": 1, "email": 2}


def test_a_policy_is_read_and_keeps_its_defaults() -> None:
    policy = read_policy({"output": {"card": "block", "email": "redact"}})
    assert policy == Policy(output=Rules(card=Action.BLOCK, email=Action.REDACT))
    assert read_policy({}) == Policy()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"outputs": {}}, "outputs"),
        ({"output": {"cards": "block"}}, "cards"),
        ({"output": {"card": "Block"}}, "Block"),
        ({"calls": {"min": 0.4}}, "min"),
        ({"calls": {"unwatched": "pass"}}, "pass"),
        ({"calls": {"unwatched": "redact"}}, "not redacted"),
    ],
)
def test_what_is_not_known_is_refused(settings: dict[str, dict[str, str | float]], named: str) -> None:
    with pytest.raises(UnknownOption, match=named):
        read_policy(settings)


def test_a_policy_of_calls_is_read() -> None:
    assert read_policy({}).calls == CallRules()
    assert read_policy({"calls": {"min_focus": 0.4}}).calls == CallRules(0.4, Action.BLOCK)
    lenient = read_policy({"calls": {"min_focus": 1, "unwatched": "allow"}, "input": {"card": "block"}})
    assert lenient == Policy(input=Rules(card=Action.BLOCK), calls=CallRules(1, Action.ALLOW))


@pytest.mark.parametrize("least", [-0.1, 1.1, "0.4", True])
def test_a_focus_that_is_no_share_is_refused(least: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        read_policy({"calls": {"min_focus": least}})
