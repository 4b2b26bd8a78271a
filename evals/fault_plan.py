"""Say what goes wrong with which request, and judge whom it hurt. Knows nothing of engines or servers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: So many that 64 run still when some have been broken and some have ended.
NUM_SEATS = 112
BLOCK = 32
PROMPT_LENGTHS = (2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 17, 40)
MIN_ANSWER = 12
WAIT_S = 120.0


class Kind(Enum):
    """What goes wrong; a nudge is for the control: it changes a number and tells nobody."""

    EXCEPTION = "exception"
    ALLOCATION = "allocation"
    NAN = "nan"
    GRAMMAR = "grammar"
    LEAVES = "leaves"
    STALLS = "stalls"
    NUDGE = "nudge"


IN_A_PASS = frozenset({Kind.EXCEPTION, Kind.ALLOCATION, Kind.NAN, Kind.NUDGE})


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request, when the token at position `at` is computed or has come."""

    kind: Kind
    at: int


@dataclass
class Outcome:
    """What a caller heard: every delta in order, and how it ended."""

    deltas: list[Any] = field(default_factory=list)
    end: str = ""


Wave = Mapping[int, Outcome]


def prompt_of(seat: int) -> tuple[int, ...]:
    """The prompt of a seat; its first token is nobody else's."""
    dice = random.Random(seat)
    length = PROMPT_LENGTHS[seat % len(PROMPT_LENGTHS)]
    return (seat + 1, *(dice.randrange(200, 500) for _ in range(length - 1)))


def answer_length(seat: int) -> int:
    return MIN_ANSWER + seat * 7 % 13


def is_batched(seat: int) -> bool:
    """Whether it shares its passes, and their rounding: of these tokens are compared, and no numbers."""
    return seat % 4 == 3


def hurt(wave: Wave, faults: Mapping[int, Fault], undisturbed: Wave) -> list[int]:
    """Seats that had no fault, and did not get what they get undisturbed."""
    return [
        seat
        for seat, outcome in wave.items()
        if seat not in faults
        and (outcome.end != "finished" or outcome.deltas != undisturbed[seat].deltas)
    ]  # fmt: skip


def unharmed(wave: Wave, faults: Mapping[int, Fault]) -> list[int]:
    """Seats whose fault did not end them as it should."""
    ends = {Kind.LEAVES: "cancelled", Kind.STALLS: "stalled"}
    return [seat for seat, fault in faults.items() if wave[seat].end != ends.get(fault.kind, "failed")]


def new_faults(
    dice: random.Random, kinds: Sequence[Kind], count: int, num_seats: int = NUM_SEATS
) -> dict[int, Fault]:
    """Faults for so many seats, in turn of their kinds: while the prompt's end is read, or later."""
    seats = dice.sample(range(num_seats), count)
    return {
        seat: Fault(kinds[number % len(kinds)], len(prompt_of(seat)) - 1 + dice.randrange(MIN_ANSWER - 3))
        for number, seat in enumerate(seats)
    }
