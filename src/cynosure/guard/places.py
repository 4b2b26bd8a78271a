"""Translate offsets between a text and what a policy shows of it. Knows nothing of who asks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from cynosure.guard.policy import Action, Finding

Span = tuple[int, int]


class Places:
    """Where the code points of a text went when findings were redacted.

    Whatever touches a redaction covers all of it: part of a mark stands for nothing.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        """Take the findings of a whole text, in reading order."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._shown_starts: list[int] = []
        self._shown_ends: list[int] = []
        shift = 0
        for finding in findings:
            assert finding.action is not Action.BLOCK, "nothing of a blocked text is shown"
            if finding.action is Action.REDACT:
                start = finding.start + shift
                end = start + len(finding.mark)
                self._starts.append(finding.start)
                self._ends.append(finding.end)
                self._shown_starts.append(start)
                self._shown_ends.append(end)
                shift = end - finding.end

    def shown(self, span: Span) -> Span:
        """Where in the shown text a span of the original stands."""
        return _moved(span, (self._starts, self._ends), (self._shown_starts, self._shown_ends))

    def original(self, span: Span) -> Span:
        """Which span of the original a span of the shown text stands for."""
        return _moved(span, (self._shown_starts, self._shown_ends), (self._starts, self._ends))


def _moved(span: Span, here: tuple[list[int], list[int]], there: tuple[list[int], list[int]]) -> Span:
    start, end = span
    first = bisect_right(here[0], start) - 1
    if first >= 0 and start < here[1][first]:
        new_start = there[0][first]
    else:
        new_start = start + (there[1][first] - here[1][first] if first >= 0 else 0)
    last = bisect_left(here[0], end) - 1
    if end > start and last >= 0 and end <= here[1][last]:
        return new_start, there[1][last]
    if end == start:
        return new_start, new_start
    return new_start, end + (there[1][last] - here[1][last] if last >= 0 else 0)
