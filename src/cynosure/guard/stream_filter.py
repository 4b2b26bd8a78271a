"""Apply rules to a text that comes in pieces, and release what is safe. Knows nothing of models or HTTP."""

from __future__ import annotations

from dataclasses import replace

from cynosure.guard.kinds import Kind
from cynosure.guard.policy import Action, Decision, Finding, Rules, settle_overlaps, strictest
from cynosure.guard.scan import Scanner, Settled


class StreamFilter:
    """Takes a stream piece by piece, and gives back what the rules let through.

    What was released, put together, equals `check` of the whole text, however the text was cut. Held back
    is the last word with what a pattern could still join to it: at most `scan.MAX_VISIBLE` characters,
    or `scan.MAX_HELD` code points where some are invisible. After a blocked finding nothing is released.
    """

    def __init__(self, rules: Rules) -> None:
        self._actions = rules.by_kind()
        self._scanner = Scanner()
        self._findings: list[Finding] = []
        self._is_blocked = False

    @property
    def is_blocked(self) -> bool:
        """Whether a blocked finding was met; whoever produces the text may stop."""
        return self._is_blocked

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, in reading order, in code points of the whole text."""
        return tuple(self._findings)

    @property
    def num_settled(self) -> int:
        """How many code points of the text no later one can change; up to there `findings` is complete."""
        return self._scanner.num_settled

    @property
    def action(self) -> Action:
        """The strictest action taken so far."""
        return strictest(self._findings)

    def push(self, text: str) -> str:
        """Read on; return what is released by it."""
        return "" if self._is_blocked else self._apply(self._scanner.push(text))

    def finish(self) -> str:
        """Release the rest: nothing follows."""
        return "" if self._is_blocked else self._apply(self._scanner.finish())

    def _apply(self, settled: Settled) -> str:
        if not settled.spans:
            return settled.text
        released, at = [], settled.start
        for finding in settle_overlaps(settled.spans, self._actions):
            released.append(settled.text[at - settled.start : finding.start - settled.start])
            at = finding.end
            goes_on = self._goes_on(finding)
            if goes_on:
                self._findings[-1] = replace(self._findings[-1], end=finding.end)
            else:
                self._findings.append(finding)
            if finding.action is Action.BLOCK:
                self._is_blocked = True
                return "".join(released)
            if finding.action is Action.ALLOW:
                released.append(settled.text[finding.start - settled.start : at - settled.start])
            elif not goes_on:
                released.append(finding.mark)
        released.append(settled.text[at - settled.start :])
        return "".join(released)

    def _goes_on(self, finding: Finding) -> bool:
        """A long secret is found in parts that touch."""
        if not self._findings or finding.kind is not Kind.SECRET:
            return False
        last = self._findings[-1]
        return last.kind is finding.kind and last.end == finding.start and last.rule == finding.rule


def check(text: str, rules: Rules) -> Decision:
    """Decide on a whole text."""
    stream = StreamFilter(rules)
    shown = stream.push(text) + stream.finish()
    return Decision(stream.action, stream.findings, shown)
