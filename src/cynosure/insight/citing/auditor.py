"""Choose which citation of an answer to put to the test, and against what. Knows no model and no server.

A citation claims that a sentence stands on a part of the prompt. It is tested by taking the part away: if the
sentence is then less likely, by more than where another part of like size is taken, the citation held.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.core.errors import InputError
from cynosure.insight.citing.cited import Cited
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.insight.report import AttentionReport

#: Parts are of like size up to this factor between their tokens.
LIKE_SIZE = 2.0
#: How much more of a sentence's log-probability the cited part must take with it, in nats.
MIN_EFFECT_NATS = 0.1

#: `(first token, end, nats)` of a prompt; `-inf` denies.
Bias = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class AuditorSettings:
    """What is audited, and when an alarm is raised.

    - `share`: of the answers that cite something.
    - `seed`: of who is chosen, and what is taken away beside.
    - `floor`: the share of audits in which a citation holds, at least; below it is an alarm.
    - `alpha`: the chance of a false alarm, ever.
    - `is_late`: whether parts are hidden from the sentence alone. Else the whole prompt is read again without
      them, so that nothing that was read behind them has absorbed them.
    """

    share: float = 0.02
    seed: int = 0
    floor: float = 0.75
    alpha: float = 0.01
    is_late: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a number is no share, or leaves nothing to tell.
        """
        if not 0 < self.share <= 1:
            raise InputError(f"the share of audited answers is {self.share}; it is above 0 and at most 1.")
        for name, value in (("floor", self.floor), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise InputError(f"{name} is {value}; it lies between 0 and 1. Change it.")


@dataclass(frozen=True)
class AuditCase:
    """What is measured: how likely tokens `first:end` of an answer are without each of two parts."""

    first: int
    end: int
    cited: int
    other: int
    score: float
    other_score: float


@dataclass(frozen=True)
class Audit:
    """What came of it: by how many nats the sentence is less likely without the part."""

    case: AuditCase
    drop: float
    other_drop: float

    @property
    def is_held(self) -> bool:
        """Whether the cited part mattered more."""
        return self.drop > self.other_drop + MIN_EFFECT_NATS


def planned(report: AttentionReport, cited: Sequence[Cited], dice: random.Random) -> AuditCase | None:
    """Draw one citation, and a part to compare it with; None where there is none of like size."""
    segments = report.reading.segments
    cases = []
    for one in cited:
        alike = set(_like(segments, one.part, report.bias))
        others = [(part, score) for part, score in one.uncited if part in alike]
        if others:
            other, score = dice.choice(others)
            cases.append(AuditCase(one.first, one.end, one.part, other, one.score, score))
    return dice.choice(cases) if cases else None


def runs_of(segments: PromptSegments, part: int) -> tuple[tuple[int, int], ...]:
    """Where the tokens of a part stand."""
    return tuple((start, end) for owner, start, end in segments.runs if owner == part)


def with_denied(bias: Bias, runs: Sequence[tuple[int, int]]) -> Bias:
    """Deny runs on top of what is weighed already; sorted, and none over another."""
    kept = list[tuple[int, int, float]]()
    for start, end, nats in bias:
        place = start
        for first, stop in sorted(runs):
            if stop <= place or first >= end:
                continue
            if first > place:
                kept.append((place, first, nats))
            place = min(stop, end)
        if place < end:
            kept.append((place, end, nats))
    return tuple(sorted([*kept, *((first, stop, -math.inf) for first, stop in runs)]))


def _like(segments: PromptSegments, cited: int, bias: Bias) -> list[int]:
    """Other parts of the same role and like size that can be taken away; none where the cited one can't."""
    counts, own = segments.num_tokens, segments.parts[cited]
    alike = [
        index
        for index, part in enumerate(segments.parts)
        if part.role == own.role
        and counts[index]
        and max(counts[index], counts[cited]) <= LIKE_SIZE * min(counts[index], counts[cited])
        and _can_be_denied(segments, index, bias)
    ]
    return [index for index in alike if index != cited] if cited in alike else []


def _can_be_denied(segments: PromptSegments, part: int, bias: Bias) -> bool:
    """Whether it was read at all, and is not what the answer goes on from."""
    runs = runs_of(segments, part)
    denied = [(start, end) for start, end, nats in bias if nats == -math.inf]
    is_read = not any(start < stop and first < end for start, end in runs for first, stop in denied)
    return is_read and runs[-1][1] < len(segments.owners)
