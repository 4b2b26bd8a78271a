"""Follow one request through an encoder-decoder: its input, its lines, its events. Decides nothing.

What is generated stands on one line, or on several that a beam search prolongs side by side. A line is a
decoder's sequence: it begins with the model's start token, and has pages of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cynosure.cache import CacheKey, SequencePages
from cynosure.engine.beam_search import BeamSearch
from cynosure.engine.encoder_outputs import EncoderOutput
from cynosure.engine.grammar.grammar import Matcher
from cynosure.engine.request import Event, FinishReason, Request, TokenEvent, Usage
from cynosure.engine.seq2seq.runner import LineWork
from cynosure.engine.sequence import Sequence

Notify = Callable[[Event], None]


class Answer:
    """A request that has not ended."""

    def __init__(
        self,
        request: Request,
        notify: Notify,
        key: CacheKey | None,
        *,
        start_id: int,
        new_pages: Callable[[], SequencePages],
        matcher: Matcher | None = None,
    ) -> None:
        """Hold the prompt; nothing is encoded and no page is taken. `key` is the one of the input."""
        own = replace(request, token_ids=(start_id,), segments=None)
        self.request = request
        self.key = key
        #: The decoder's side: dice, events, and what was chosen.
        self.sequence = Sequence(own, notify, new_pages(), matcher)
        self.input: EncoderOutput | None = None
        self.num_cached = 0
        self.num_promised_blocks = 0
        self._pages = [self.sequence.pages]
        self._search: BeamSearch | None = None

    @property
    def num_lines(self) -> int:
        """How many lines there may come to be."""
        beams = self.request.params.beams
        return 1 if beams is None else beams.num_beams

    @property
    def is_searched(self) -> bool:
        """Whether its lines compete."""
        return self.request.params.beams is not None

    @property
    def usage(self) -> Usage:
        """What the request cost so far."""
        return Usage(len(self.request.token_ids), self.num_cached, len(self.sequence.generated))

    @property
    def pages(self) -> list[SequencePages]:
        """Those of each line that runs, the best first."""
        return self._pages

    @property
    def num_held_blocks(self) -> int:
        """Pages of all lines, each once."""
        return len({block for pages in self._pages for block in pages.blocks})

    def work(self) -> list[LineWork]:
        """The next token of each line; their pages must be reserved."""
        assert self.input is not None
        num_input = len(self.request.token_ids)
        return [
            LineWork(tokens[-1], pages.num_tokens, pages.blocks, num_input, self.input.blocks)
            for tokens, pages in zip(self._lines(), self._pages, strict=True)
        ]

    def fill(self) -> None:
        """Count what the last pass wrote."""
        for tokens, pages in zip(self._lines(), self._pages, strict=True):
            pages.fill(tokens)

    def search(
        self, logits: Float[Tensor, "lines vocab"], eos_token_ids: frozenset[int]
    ) -> FinishReason | None:
        """Prolong the lines by the best continuations; where that was the last step, tell the best answer.

        Raises:
            CynosureError: the search can't go on.
        """
        if self._search is None:
            self._search = BeamSearch(self.request.params, self.sequence.token_ids, eos_token_ids)
        parents = self._search.advance(logits)
        if not self._search.is_done:
            forked = [self._pages[parent].fork() for parent in parents]
            self._release_pages()
            self._pages = forked
            return None
        reason = None
        for token in self._search.best.tokens:
            reason = self.sequence.accept(token.token_id, eos_token_ids)
            event = TokenEvent(self.request.request_id, token.token_id, token.logprob, token.top_logprobs)
            self.sequence.tell(event)
        return reason

    def release(self) -> None:
        """Give the pages of all lines back."""
        self._release_pages()
        self._pages = []

    def _lines(self) -> list[list[int]]:
        """The tokens of each line, the start token first."""
        if self._search is None:
            return [self.sequence.token_ids]
        return [[*self.sequence.token_ids, *beam.token_ids] for beam in self._search.running]

    def _release_pages(self) -> None:
        for pages in self._pages:
            pages.release()
