"""Say whose attention a request has watched, and what a token attended to. Knows nothing of tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from cynosure.core.errors import InputError

MAX_SEGMENTS = 512
MAX_HEADS = 1024
#: Sums with weights of their own that a request may have folded out of the heads' shares.
MAX_FOLDS = 16
#: Nats that a caller may add to a segment's scores, or take off.
MAX_BIAS = 10.0

DENIED = -math.inf

#: Tokens `start <= token < end` of a prompt, and what is added to their scores, in nats; `-inf` denies them.
BiasRun = tuple[int, int, float]


@dataclass(frozen=True)
class Watchable:
    """The heads of a model: how many query heads each layer has, and which layers see a whole sequence."""

    num_heads: tuple[int, ...]
    full_layers: tuple[int, ...]


@dataclass(frozen=True)
class WatchSpec:
    """What is watched while a request runs; it changes no token.

    - `heads`: query heads as `(layer, head)`, sorted.
    - `runs`: to which segment the prompt's tokens belong: `(segment, start, end)`, in order and without
      gaps. A segment may have several runs, or none.
    - `num_prompt_segments`: what is generated is one more segment, behind those of the prompt.
    - `every`: of how many tokens one is watched, the first among them.
    - `folds`: weights of the heads, in their order; each adds the heads' shares up in its own way.
    """

    heads: tuple[tuple[int, int], ...]
    runs: tuple[tuple[int, int, int], ...]
    num_prompt_segments: int
    every: int = 1
    folds: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without a model.

        Raises:
            InputError: no head or too many, runs that do not follow each other, too many segments, `every`
                below 1, or folds that are not of these heads.
        """
        if not 0 < len(self.heads) <= MAX_HEADS:
            raise InputError(
                f"{len(self.heads)} heads are to be watched; 1..{MAX_HEADS} may be. Name fewer heads."
            )
        if list(self.heads) != sorted(set(self.heads)) or min(map(min, self.heads)) < 0:
            raise InputError("watched heads are pairs of a layer and a head from 0, sorted, each once.")
        if self.every < 1:
            raise InputError(f"every is {self.every}; it must be at least 1. Raise it.")
        self._check_folds()
        if (
            not self.runs
            or self.runs[0][1] != 0
            or any(one[2] != next[1] for one, next in pairwise(self.runs))
        ):
            raise InputError("runs of segments must follow each other from token 0 on.")
        if any(not 0 <= one < self.num_prompt_segments or start >= end for one, start, end in self.runs):
            raise InputError(
                f"a run of a segment is empty, or its segment is none of 0..{self.num_prompt_segments - 1}."
            )
        if self.num_segments > MAX_SEGMENTS:
            raise InputError(
                f"the prompt has {self.num_segments - 1} segments; attention is told of {MAX_SEGMENTS - 1} "
                "at most. Join messages, or leave attention out."
            )

    def _check_folds(self) -> None:
        if len(self.folds) > MAX_FOLDS:
            raise InputError(f"{len(self.folds)} folds are asked for; {MAX_FOLDS} may be. Ask for fewer.")
        if any(len(fold) != len(self.heads) or not all(map(math.isfinite, fold)) for fold in self.folds):
            raise InputError(f"a fold has a finite weight for each of the {len(self.heads)} watched heads.")

    @property
    def num_segments(self) -> int:
        """Segments of the prompt, and that of what is generated."""
        return self.num_prompt_segments + 1

    def runs_over(self, num_tokens: int) -> tuple[tuple[int, int, int], ...]:
        """Whose the first `num_tokens` tokens of prompt and answer are."""
        end = self.runs[-1][2]
        return (*self.runs, (self.num_segments - 1, end, num_tokens)) if num_tokens > end else self.runs

    def is_due(self, num_generated: int) -> bool:
        """Whether the token after so many is watched."""
        return num_generated % self.every == 0


class AttendedTo(NamedTuple):
    """What the query that chose a token attended to, averaged over the watched heads.

    - `masses`: the share of each segment; `sink`: that of learned sinks. Together they are 1.
    - `entropy_bits`: of the attention over keys and sink.
    - `folds`: for each fold of the spec, the heads' shares of each segment under its weights.
    """

    masses: tuple[float, ...]
    sink: float
    entropy_bits: float
    folds: tuple[tuple[float, ...], ...] = ()


def check_bias(bias: tuple[BiasRun, ...], num_tokens: int) -> None:
    """Raise where biases do not fit a prompt.

    Raises:
        InputError: runs overlap, are empty or reach behind the prompt; a bias is not within the limit; or the
            prompt's last token is denied, whose own query chooses the first token.
    """
    place = 0
    for start, end, nats in bias:
        if not place <= start < end <= num_tokens:
            raise InputError(
                f"a bias is for tokens {start}..{end} of {num_tokens}; runs must be sorted and must not "
                "overlap."
            )
        if nats != DENIED and not abs(nats) <= MAX_BIAS:
            raise InputError(f"a bias adds {nats}; the limit is {MAX_BIAS} either way. Change it.")
        place = end
    if bias and place == num_tokens and bias[-1][2] == DENIED:
        raise InputError("the prompt's last token is denied, which the answer goes on from. Deny less.")
