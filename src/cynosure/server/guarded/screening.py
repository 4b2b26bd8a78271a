"""Apply the guard's policy to the texts of one request, and note what was done. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import ContentPolicyViolation
from cynosure.guard import Action, Decision, Finding, Policy, check
from cynosure.server.guard_notes import Noted
from cynosure.server.visit import Visit

INPUT, RETRIEVED, OUTPUT = "input", "retrieved", "output"
#: Texts that are longer together are read beside the event loop, which serves others meanwhile.
MAX_AT_ONCE = 2000

T = TypeVar("T")


class Screening:
    """The policy, bound to a request."""

    def __init__(self, policy: Policy, visit: Visit) -> None:
        """Note what is found with the request."""
        self.policy = policy
        self._visit = visit

    def input(self, text: str, place: str) -> Decision:
        """Decide on a text that a caller sent; `place` names it in his request.

        Raises:
            ContentPolicyViolation: it holds what is blocked.
        """
        decision = check(text, self.policy.input)
        self.note(INPUT, decision.findings, place)
        if decision.action is Action.BLOCK:
            found = next(finding for finding in decision.findings if finding.action is Action.BLOCK)
            raise ContentPolicyViolation(
                f"the guard found a {found.kind} in {place}, characters {found.start} to {found.end}; this "
                "server's policy blocks that. Take it out.",
                place,
            )
        return decision

    async def inputs(self, texts: Sequence[str], place: str) -> list[str]:
        """What of several texts may be read, in their order.

        Raises:
            ContentPolicyViolation: one holds what is blocked.
        """

        def shown() -> list[str]:
            return [
                self.input(text, place if len(texts) == 1 else f"{place}[{at}]").text
                for at, text in enumerate(texts)
            ]

        return shown() if sum(map(len, texts)) <= MAX_AT_ONCE else await run_in_threadpool(shown)

    def exact(self, text: str, place: str, what: str) -> None:
        """Decide on a text that can't be changed, and `what` it is; what would be redacted is refused.

        Raises:
            ContentPolicyViolation: it holds what is blocked or redacted.
        """
        found = [one for one in self.input(text, place).findings if one.action is Action.REDACT]
        if found:
            raise ContentPolicyViolation(
                f"the guard found a {found[0].kind} in {place}; this server's policy redacts it, and {what} "
                "can't be rewritten. Take it out.",
                place,
            )

    def structure(self, value: T, place: str) -> T:
        """A JSON value with every text in it decided on, names of fields too.

        Raises:
            ContentPolicyViolation: one holds what is blocked; or the name of a field what is redacted.
        """
        return self._structure(value, place)  # type: ignore[return-value] - of the shape that came

    def retrieved(self, text: str, place: str) -> Decision:
        """Decide on a text that was fetched."""
        decision = check(text, self.policy.retrieved)
        self.note(RETRIEVED, decision.findings, place)
        return decision

    def note(self, direction: str, findings: Sequence[Finding], place: str) -> None:
        """Keep what was found, without what it says."""
        for found in findings:
            self._visit.guard.add(Noted(direction, found.kind, found.action, place, found.start, found.end))

    def _structure(self, value: object, place: str, name: str = "") -> object:
        if isinstance(value, str):
            # With its name before it: `password` says what a value is.
            prefix = f"{name}: " if name else ""
            return self.input(prefix + value, place).text.removeprefix(prefix)
        if isinstance(value, Mapping):
            for field in value:
                self.exact(str(field), place, "the name of a field")
            return {field: self._structure(item, place, str(field)) for field, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._structure(item, place, name) for item in value)
        return value
