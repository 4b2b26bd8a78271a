"""Keep what the guard found in a request: kinds, places and counts. Never holds what was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cynosure.guard import CALLS, Action, Kind

#: How calls of functions that were not handed out are counted.
STOPPED = "stopped"
#: Findings that are told one by one; all are counted.
MAX_NOTED = 64


@dataclass(frozen=True)
class Noted:
    """A finding of the guard: what kind, where, and what was done. What was found is not kept.

    `place` is a text of the request, a quote or the answer; `start` and `end` count its code points.
    """

    direction: str
    kind: Kind
    action: Action
    place: str
    start: int
    end: int


@dataclass(eq=False)
class GuardNotes:
    """What the guard found in one request, and what it stopped."""

    first: list[Noted] = field(default_factory=list)
    counts: Counter[tuple[str, Kind, Action]] = field(default_factory=Counter)
    #: Calls of functions that were not handed out.
    num_stopped_calls: int = 0

    def add(self, noted: Noted) -> None:
        """Count a finding."""
        self.counts[noted.direction, noted.kind, noted.action] += 1
        if len(self.first) < MAX_NOTED:
            self.first.append(noted)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """How many of each kind, by direction: what an audit record holds."""
        found: dict[str, dict[str, int]] = {}
        for (direction, kind, _), count in sorted(self.counts.items()):
            of_kind = found.setdefault(direction, {})
            of_kind[kind.value] = of_kind.get(kind.value, 0) + count
        if self.num_stopped_calls:
            found[CALLS] = {STOPPED: self.num_stopped_calls}
        return found

    def told(self) -> str:
        """The same in a line, for a header: `input card redact 1; output email allow 2`."""
        told = [f"{' '.join(key)} {count}" for key, count in sorted(self.counts.items())]
        if self.num_stopped_calls:
            told.append(f"{CALLS} {STOPPED} {self.num_stopped_calls}")
        return "; ".join(told)
