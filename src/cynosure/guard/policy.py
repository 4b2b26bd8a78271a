"""Say what may be done with what is found, by kind and by direction. Knows nothing of how it is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from cynosure.core.errors import InputError, UnknownOption
from cynosure.guard.kinds import Kind, Span


class Action(StrEnum):
    """What happens to a finding, mildest first."""

    ALLOW = "allow"
    """It is reported and left as it is."""
    REDACT = "redact"
    """Its kind stands in its place, as `[card]`."""
    BLOCK = "block"
    """The text ends before it, and nothing more is shown."""


#: The direction that is no text: calls of functions.
CALLS = "calls"

_STRICTNESS = {action: place for place, action in enumerate(Action)}
# The surer kind first: an account number's checksum is right by chance once in 97, a card's once in 10.
_SUREST = (Kind.SECRET, Kind.IBAN, Kind.CARD, Kind.EMAIL, Kind.PHONE)
_PRIORITY = {kind: place for place, kind in enumerate(_SUREST)}


@dataclass(frozen=True)
class Rules:
    """What happens to each kind in texts of one direction."""

    secret: Action = Action.REDACT
    card: Action = Action.REDACT
    iban: Action = Action.REDACT
    email: Action = Action.ALLOW
    phone: Action = Action.ALLOW

    def by_kind(self) -> dict[Kind, Action]:
        """The same as a mapping."""
        return {
            Kind.SECRET: self.secret,
            Kind.CARD: self.card,
            Kind.IBAN: self.iban,
            Kind.EMAIL: self.email,
            Kind.PHONE: self.phone,
        }

    @classmethod
    def every(cls, action: Action) -> Rules:
        """The same action for every kind."""
        return cls(action, action, action, action, action)


@dataclass(frozen=True)
class CallRules:
    """What happens to calls of functions in answers to prompts that hold text of nobody who is trusted.

    - `min_focus`: the least share that trusted instructions must have had, from 0 to 1; None judges no call.
    - `unwatched`: what happens to requests whose calls can't be judged: `block` or `allow`.
    """

    min_focus: float | None = None
    unwatched: Action = Action.BLOCK

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a share that is none.
            UnknownOption: an action that calls can't have done to them.
        """
        if self.min_focus is not None and not 0 <= self.min_focus <= 1:
            raise InputError(f"guard policy: min_focus is {self.min_focus}; it is from 0 to 1. Change it.")
        if self.unwatched is Action.REDACT:
            raise UnknownOption("guard policy: calls are not redacted. Let unwatched be block or allow.")


@dataclass(frozen=True)
class Policy:
    """The rules for what callers send, what retrieval fetched, what a model writes, and what it calls."""

    input: Rules = Rules()
    retrieved: Rules = Rules()
    output: Rules = Rules()
    calls: CallRules = CallRules()


@dataclass(frozen=True)
class Finding:
    """The code points `text[start:end]` of the original are of a kind, and this was done with them."""

    kind: Kind
    start: int
    end: int
    action: Action
    rule: str

    @property
    def mark(self) -> str:
        """What stands in its place where it is redacted."""
        return f"[{self.kind}]"


@dataclass(frozen=True)
class Decision:
    """What a text holds, the strictest action taken, and what of the text may be shown.

    After `block` the text ends before the first blocked finding.
    """

    action: Action
    findings: tuple[Finding, ...]
    text: str

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each kind."""
        return count_kinds(self.findings)


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each kind; what an audit record holds of a text."""
    return dict(sorted(Counter(finding.kind.value for finding in findings).items()))


def strictest(findings: Iterable[Finding]) -> Action:
    """The strictest action among findings; without any, `allow`."""
    return max((finding.action for finding in findings), key=_STRICTNESS.__getitem__, default=Action.ALLOW)


def settle_overlaps(spans: Iterable[Span], actions: Mapping[Kind, Action]) -> list[Finding]:
    """Choose among overlapping spans, in reading order: the stricter action, then the surer kind.

    So a kind that is allowed never shields one that is not.
    """
    chosen: list[Span] = []
    for cluster in _clusters(spans):
        taken: list[Span] = []
        for span in sorted(cluster, key=lambda span: _rank(span, actions)):
            if all(span.end <= other.start or other.end <= span.start for other in taken):
                taken.append(span)
        chosen += sorted(taken, key=_extent)
    return [Finding(span.kind, span.start, span.end, actions[span.kind], span.rule) for span in chosen]


def _clusters(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Group spans that overlap, one through the other."""
    cluster: list[Span] = []
    end = 0
    for span in sorted(spans, key=_extent):
        if cluster and span.start >= end:
            yield cluster
            cluster = []
        cluster.append(span)
        end = max(end, span.end) if len(cluster) > 1 else span.end
    if cluster:
        yield cluster


def _rank(span: Span, actions: Mapping[Kind, Action]) -> tuple[int, int, int, int]:
    return -_STRICTNESS[actions[span.kind]], _PRIORITY[span.kind], span.start - span.end, span.start


def _extent(span: Span) -> tuple[int, int]:
    return span.start, span.end


def read_policy(settings: Mapping[str, Mapping[str, str | float]]) -> Policy:
    """Read a policy such as `{"output": {"card": "block"}}`; what is not named keeps its default.

    Raises:
        UnknownOption: A direction, kind or action that does not exist.
        InputError: a number that is out of its range.
    """
    _known(settings, [field.name for field in fields(Policy)], "direction")
    rules = {
        direction: _rules(direction, {kind: str(action) for kind, action in chosen.items()})
        for direction, chosen in settings.items()
        if direction != CALLS
    }
    return Policy(**rules, calls=_call_rules(settings.get(CALLS, {})))


def _call_rules(chosen: Mapping[str, str | float]) -> CallRules:
    _known(chosen, [field.name for field in fields(CallRules)], f"setting for {CALLS}")
    least, unwatched = chosen.get("min_focus"), chosen.get("unwatched", Action.BLOCK.value)
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | float)):
        raise InputError(f"guard policy: min_focus is {least!r}; it is a number from 0 to 1. Change it.")
    _known([str(unwatched)], list(Action), f"action for {CALLS}")
    return CallRules(least, Action(str(unwatched)))


def _rules(direction: str, chosen: Mapping[str, str]) -> Rules:
    _known(chosen, list(Kind), f"kind for {direction}")
    _known(chosen.values(), list(Action), f"action for {direction}")
    return Rules(**{kind: Action(action) for kind, action in chosen.items()})


def _known(given: Iterable[str], known: list[str], what: str) -> None:
    if strange := [name for name in given if name not in known]:
        raise UnknownOption(
            f"guard policy: {what} {strange[0]!r} does not exist. Take one of {', '.join(known)}."
        )
