"""Hold what a scheduling decision is made from and what comes out. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cynosure.core.errors import InputError
from cynosure.engine.request import RefusalReason


@dataclass(frozen=True)
class SequenceView:
    """What the scheduler sees of a sequence.

    - `num_tokens`: those known, prompt and answer; `num_computed` of them have keys and values in their
      pages. One that decodes has one token left to compute, one that prefills more; a prefix that was
      found counts as computed.
    - `max_num_tokens`: prompt and longest answer.
    - `num_blocks_held`: pages in its block table that the limits do not count as free. Of these,
      `num_blocks_shared` would not come free if it were preempted: others hold them too.
    - `served_tokens`: what its *tenant* has been served (`fairness.TokenCounter`).
    - `was_admitted`: it ran before and was preempted; it is never refused.
    - `is_background`: it runs while nobody else is there.
    """

    request_id: str
    num_tokens: int
    num_computed: int
    max_num_tokens: int
    num_blocks_held: int = 0
    num_blocks_shared: int = 0
    priority: int = 0
    arrival_s: float = 0.0
    deadline_s: float | None = None
    tenant: str = ""
    served_tokens: float = 0.0
    was_admitted: bool = False
    is_background: bool = False

    @property
    def num_pending(self) -> int:
        """Known tokens whose keys and values are not there yet; at least one."""
        return self.num_tokens - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether one more step of one token gives its next."""
        return self.num_pending == 1


@dataclass(frozen=True)
class WindowLimits:
    """What layers with a window may use: `num_pages` of their own, `num_free` of them promised to nobody.

    Of its blocks, a sequence needs a page there for `max_held` at most.
    """

    max_held: int
    num_pages: int
    num_free: int


@dataclass(frozen=True)
class Limits:
    """What a step may use.

    - `chunk_size`: prompt tokens of one sequence in a step, and of all together where others decode.
    - `num_blocks`: all pages; `num_free_blocks`: those free now, cached ones that may be dropped included.
    - `aging_s`: waiting that long is worth one level of priority.
    - `windows`: what a sequence needs beside its pages, for each window that layers have.
    """

    max_num_batched_tokens: int
    max_num_seqs: int
    chunk_size: int
    block_size: int
    num_blocks: int
    num_free_blocks: int
    aging_s: float = 10.0
    windows: tuple[WindowLimits, ...] = ()

    def __post_init__(self) -> None:
        """Check that every running sequence can get a token in every step.

        Raises:
            InputError: a limit is below 1, or there may be more sequences than tokens in a step.
        """
        for name in ("max_num_batched_tokens", "max_num_seqs", "chunk_size", "block_size", "num_blocks"):
            value = vars(self)[name]
            if value < 1:
                raise InputError(f"{name} is {value}; the limit is 1. Raise it.")
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise InputError(
                f"max_num_seqs is {self.max_num_seqs}; the limit is max_num_batched_tokens, "
                f"{self.max_num_batched_tokens}, so that each sequence gets a token. Lower it."
            )
        if not 0 <= self.num_free_blocks <= self.num_blocks:
            raise InputError(
                f"num_free_blocks is {self.num_free_blocks}; it must lie in 0..{self.num_blocks}. Correct it."
            )
        if not self.aging_s > 0:
            raise InputError(f"aging_s is {self.aging_s}; it must be above 0. Raise it.")

    def blocks_for(self, num_tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-num_tokens // self.block_size)


@dataclass(frozen=True)
class Rates:
    """What was measured of late; None is not known yet, and predicts nothing.

    - `step_s`: seconds of a step in which everyone decodes.
    - `answer_tokens`: the length of a usual answer.
    """

    prefill_tokens_per_s: float | None = None
    step_s: float | None = None
    answer_tokens: float = 1.0


class Step(NamedTuple):
    """How many of its pending tokens a sequence computes next."""

    request_id: str
    num_tokens: int


class Refusal(NamedTuple):
    """Who is told no, why, in words with the numbers, and the predicted wait for a first token."""

    request_id: str
    reason: RefusalReason
    message: str
    predicted_wait_s: float | None


@dataclass(frozen=True)
class Schedule:
    """What the next step does, to be carried out in this order: preempt, refuse, give blocks, run.

    `steps` holds decodes before prefills; ids in it that were waiting are admitted. `new_blocks` says how
    many pages a sequence gets on top of those it holds; those who get none are left out.
    """

    steps: tuple[Step, ...] = ()
    preempt: tuple[str, ...] = ()
    refuse: tuple[Refusal, ...] = ()
    new_blocks: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole step."""
        return sum(step.num_tokens for step in self.steps)
