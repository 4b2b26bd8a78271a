"""Compare answers to frozen prompts with what they were, number by number. Knows nothing of how one asks.

What callers send differs from request to request, far more than a rounding of keys and values changes what is
attended to; a distribution can't show that. The same prompt, answered greedily and by itself, gives the same
numbers to the last bit, until the service computes something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cynosure.insight.report import ReadToken

SentinelState = Literal["same", "moved", "answer", "prompt", "unread"]
#: A number that differs by less is the same, whatever happened when the sentinel was frozen; and how many
#: times the difference of its first two answers is still no change.
MIN_LIMIT, _NOISES = 1e-5, 20.0
#: How many sentinels in a row must differ: one alone may have met a fault that passed.
_CONFIRMED = 2


@dataclass(frozen=True)
class SentinelAnswer:
    """One answer to a frozen prompt.

    - `prompt`: a digest of the prompt's tokens; `token_ids`: the answer's.
    - `numbers`: for each of them the shares of all parts, the entropy in bits, and the log-probability in
      nats.
    """

    prompt: str
    token_ids: tuple[int, ...]
    numbers: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, prompt_ids: Sequence[int], tokens: Sequence[ReadToken]) -> SentinelAnswer:
        """Keep what was read of an answer, all of whose tokens were watched."""
        digest = hashlib.sha256(json.dumps(list(prompt_ids)).encode()).hexdigest()[:32]
        return cls(digest, tuple(token.token_id for token in tokens), tuple(map(_numbers, tokens)))


@dataclass(frozen=True)
class FrozenSentinel:
    """A prompt's name, its first answer, and from which difference on a later one counts as another."""

    id: str
    answer: SentinelAnswer
    limit: float

    @classmethod
    def of(cls, name: str, first: SentinelAnswer, second: SentinelAnswer) -> FrozenSentinel:
        """Freeze an answer that was given twice; what the two differ by is noise."""
        return cls(name, first, max(MIN_LIMIT, _NOISES * (distance(first, second) or 0.0)))


@dataclass
class SentinelReading:
    """What the last answer of a sentinel was."""

    state: SentinelState = "unread"
    distance: float | None = None
    num_answers: int = 0


class SentinelWatch:
    """The sentinels of one model, answered in turn."""

    def __init__(self, frozen: Sequence[FrozenSentinel]) -> None:
        """Begin with none answered."""
        self.frozen = tuple(frozen)
        self.readings = [SentinelReading() for _ in frozen]
        self._num_moved = 0

    @property
    def is_moved(self) -> bool:
        """Whether the last sentinels that were answered gave something else."""
        return self._num_moved >= min(_CONFIRMED, len(self.frozen)) > 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last one gave something else, and it is not certain yet."""
        return self._num_moved > 0 and not self.is_moved

    def add(self, place: int, answer: SentinelAnswer) -> SentinelReading:
        """Take the answer to a sentinel."""
        frozen, reading = self.frozen[place], self.readings[place]
        reading.num_answers += 1
        reading.state, reading.distance = compared(frozen, answer)
        self._num_moved = 0 if reading.state == "same" else self._num_moved + 1
        return reading


def compared(frozen: FrozenSentinel, answer: SentinelAnswer) -> tuple[SentinelState, float | None]:
    """How an answer is to the frozen one, and how far its numbers are, where they can be compared."""
    if answer.prompt != frozen.answer.prompt:
        return "prompt", None
    found = distance(frozen.answer, answer) or 0.0
    if answer.token_ids != frozen.answer.token_ids:
        return "answer", found
    return ("moved" if found > frozen.limit else "same"), found


def distance(first: SentinelAnswer, second: SentinelAnswer) -> float | None:
    """The largest difference of a number, over tokens that stand behind the same; None where none does."""
    largest: float | None = None
    before = True
    pairs = zip(first.token_ids, second.token_ids, first.numbers, second.numbers, strict=False)
    for mine, other, ours, theirs in pairs:
        if not before or first.prompt != second.prompt:
            break
        # Of two tokens that differ the log-probabilities do too, whatever was attended to.
        num = len(ours) if mine == other else len(ours) - 1
        found = max(abs(one - two) for one, two in zip(ours[:num], theirs[:num], strict=True))
        largest = max(found, largest or 0.0)
        before = mine == other
    return largest


def _numbers(token: ReadToken) -> tuple[float, ...]:
    shares = token.shares
    assert shares is not None, "every token of a sentinel is watched"
    others = (shares.sink_mass, shares.template_mass, shares.generated_mass, shares.entropy_bits)
    return (*shares.masses, *others, token.logprob or 0.0)
