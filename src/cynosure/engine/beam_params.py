"""Say how a request wants its answer searched for. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cynosure.core.errors import InputError

#: Each beam is a sequence of its own in every step, and holds pages of its own.
MAX_BEAMS = 32

MAX_LENGTH_PENALTY = 10.0


class EarlyStopping(Enum):
    """When a search with as many finished answers as beams ends.

    - `FULL`: at once (transformers: `early_stopping=True`).
    - `HEURISTIC`: when the best that runs, scored at its present length, is worse than all that finished
      (`False`).
    - `NEVER`: when it is worse at the length that suits it best, as in the textbook (`"never"`).
    """

    FULL = "full"
    HEURISTIC = "heuristic"
    NEVER = "never"


@dataclass(frozen=True)
class BeamParams:
    """How wide a beam search is, and how it compares answers of different lengths.

    An answer's score is its log-probability divided by its length to the power of `length_penalty`: above 0
    favours long answers, below 0 short ones.
    """

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = EarlyStopping.HEURISTIC

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: fewer than 2 or more than `MAX_BEAMS` beams, or a penalty out of range.
        """
        if not 2 <= self.num_beams <= MAX_BEAMS:
            raise InputError(
                f"num_beams is {self.num_beams}; it must be from 2 to {MAX_BEAMS}. Without a search, leave "
                "the beams out."
            )
        # Above that, powers of a length leave the range of numbers.
        if not abs(self.length_penalty) <= MAX_LENGTH_PENALTY:
            raise InputError(
                f"length_penalty is {self.length_penalty}; it must be from -{MAX_LENGTH_PENALTY} to "
                f"{MAX_LENGTH_PENALTY}. Change it."
            )
