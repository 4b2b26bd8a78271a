"""Say what one sequence does in one step. Decides and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import CynosureError, EngineFault
from cynosure.engine.runner import Work
from cynosure.engine.sequence import Sequence


@dataclass(frozen=True)
class Task:
    """What one sequence does in this step: `num_tokens` of its own, and those of a `draft` behind them."""

    sequence: Sequence
    num_tokens: int
    draft: tuple[int, ...] = ()

    @property
    def is_decode(self) -> bool:
        """Whether one token is all that was left to compute."""
        return self.num_tokens == 1 and self.is_last

    @property
    def is_last(self) -> bool:
        """Whether all known tokens are computed afterwards, so that the next one can be chosen."""
        return self.sequence.num_computed + self.num_tokens == len(self.sequence.token_ids)

    @property
    def work(self) -> Work:
        """What the runner is given."""
        sequence = self.sequence
        done = sequence.num_computed
        wants_all = sequence.request.params.prompt_logprobs is not None and done < sequence.num_prompt_tokens
        return Work(
            token_ids=(*sequence.token_ids[done : done + self.num_tokens], *self.draft),
            past_len=done,
            blocks=sequence.pages.blocks,
            num_logits=(self.num_tokens if wants_all else int(self.is_last)) + len(self.draft),
            is_reproducible=sequence.request.is_reproducible,
        )


def as_fault(error: Exception) -> CynosureError:
    """What a request is told that broke the model."""
    if isinstance(error, CynosureError):
        return error
    return EngineFault(f"the model failed on this request: {error}. The other requests go on.")
