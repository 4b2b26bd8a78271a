"""Say what one sequence does in one step. Decides and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import CynosureError, EngineFault
from cynosure.engine.largest import Likeliest
from cynosure.engine.runner import Work
from cynosure.engine.sequence import Sequence
from cynosure.engine.watched_pass import Watched
from cynosure.models.image_prompt import PlacedRows
from cynosure.models.native.page_choosing import ChosenPages


@dataclass(frozen=True)
class Task:
    """What one sequence does in this step: `num_tokens` of its own, and those of a `draft` behind them.

    Where it `is_own`, the draft was decoded by the model itself (`engine/run_ahead.py`), and the `likeliest`
    of the rows before it are known.
    """

    sequence: Sequence
    num_tokens: int
    draft: tuple[int, ...] = ()
    is_own: bool = False
    likeliest: tuple[Likeliest, ...] = ()

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
        params, num_scored = sequence.request.params, 0
        if params.prompt_logprobs is not None and done < sequence.num_prompt_tokens:
            num_scored = done + self.num_tokens - max(done, params.prompt_logprobs_start - 1)
        return Work(
            token_ids=(*sequence.token_ids[done : done + self.num_tokens], *self.draft),
            past_len=done,
            blocks=sequence.pages.blocks,
            num_logits=max(num_scored, int(self.is_last)) + len(self.draft),
            is_reproducible=sequence.request.is_reproducible,
            watched=self._watched,
            bias=sequence.bias,
            chosen=self.chosen,
            placed=self._placed,
            adapter=sequence.adapter,
            states=sequence.pages.state_path,
        )

    @property
    def chosen(self) -> ChosenPages | None:
        """How many pages a decode attends to, where its request says so."""
        selection, num_generated = self.sequence.request.page_selection, len(self.sequence.generated)
        if selection is None or not self.is_decode or not num_generated:
            return None
        return ChosenPages(selection.num_pages, selection.is_due(num_generated))

    @property
    def has_plain_step(self) -> bool:
        """Whether nothing is placed, chosen, adapted or remembered beside the pages."""
        sequence = self.sequence
        is_bare = sequence.adapter is None and sequence.images is None and sequence.pages.state_path is None
        return is_bare and self.chosen is None

    @property
    def _placed(self) -> PlacedRows | None:
        """What of images the tokens read, where the request brings any."""
        images, done = self.sequence.images, self.sequence.num_computed
        return None if images is None else images.rows(done, done + self.num_tokens + len(self.draft))

    def watched_after(self, number: int) -> Watched | None:
        """What is watched of a step that decodes the token after so many more, by itself."""
        spec, num_generated = self.sequence.request.watch, len(self.sequence.generated)
        is_due = spec is not None and spec.is_due(num_generated + number)
        return Watched(spec, 0, (0,)) if spec is not None and is_due else None

    @property
    def _watched(self) -> Watched | None:
        """Those of the tokens that the next ones are chosen after, where the request has them watched."""
        spec, num_generated = self.sequence.request.watch, len(self.sequence.generated)
        if spec is None or not self.is_last:
            return None
        depths = [depth for depth in range(1 + len(self.draft)) if spec.is_due(num_generated + depth)]
        return Watched(spec, self.num_tokens - 1, tuple(depths)) if depths else None


def as_fault(error: Exception) -> CynosureError:
    """What a request is told that broke the model."""
    if isinstance(error, CynosureError):
        return error
    return EngineFault(f"the model failed on this request: {error}. The other requests go on.")
