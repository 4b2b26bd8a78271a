"""Follow one request through an encoder-decoder: its input, its lines, its events. Decides nothing.

What is generated stands on one line, or on several that a beam search prolongs side by side. A line is a
decoder's sequence: it begins with the model's start token, or with the request's tokens where the encoder
reads features, and has pages of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import CacheKey, SequencePages
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.beam_search import BeamSearch
from cynosure.engine.encoder_outputs import EncoderOutput
from cynosure.engine.features import Features
from cynosure.engine.grammar.matching import Matcher
from cynosure.engine.request import Event, FinishReason, Request, TokenEvent, Usage
from cynosure.engine.sampler import Row
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
        rules: AnswerRules,
        num_input: int,
        new_pages: Callable[[], SequencePages],
        matcher: Matcher | None = None,
    ) -> None:
        """Hold the prompt; nothing is encoded and no page is taken.

        `key` is the one of the input, of which `num_input` positions will be read.
        """
        begins = (rules.start_id,) if request.features is None else request.token_ids
        own = replace(request, token_ids=begins, features=None, segments=None)
        self.request = request
        self.num_input = num_input
        # Who says what an answer begins with, or constrains it, needs no first token.
        is_free = request.features is None and matcher is None
        self._rules = rules if is_free else replace(rules, first_id=None)
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
        num_given = 0 if self.request.features is None else self.sequence.num_prompt_tokens
        return Usage(self.num_input + num_given, self.num_cached, len(self.sequence.generated))

    @property
    def content(self) -> tuple[int, ...] | Features:
        """What the encoder reads."""
        return self.request.features or self.request.token_ids

    @property
    def max_line_len(self) -> int:
        """Tokens of a line that may have to be kept; the last of an answer is never read again."""
        max_tokens = self.request.params.max_tokens
        return self.sequence.num_prompt_tokens + max_tokens - 1 if max_tokens else 0

    @property
    def num_next(self) -> int:
        """Tokens of each line that the next pass computes: one, save that all are new at the start."""
        return len(self._lines()[0]) - self._pages[0].num_tokens

    @property
    def pages(self) -> list[SequencePages]:
        """Those of each line that runs, the best first."""
        return self._pages

    @property
    def num_held_blocks(self) -> int:
        """Pages of all lines, each once."""
        return len({block for pages in self._pages for block in pages.blocks})

    def work(self) -> list[LineWork]:
        """The next tokens of each line; their pages must be reserved."""
        assert self.input is not None
        return [
            LineWork(
                tuple(tokens[pages.num_tokens :]),
                pages.num_tokens,
                pages.blocks,
                self.num_input,
                self.input.blocks,
            )
            for tokens, pages in zip(self._lines(), self._pages, strict=True)
        ]

    def fill(self) -> None:
        """Count what the last pass wrote."""
        for tokens, pages in zip(self._lines(), self._pages, strict=True):
            pages.fill(tokens)

    def sampler_row(self, eos_token_ids: frozenset[int], vocab_size: int) -> Row:
        """Return what the sampler needs.

        Raises:
            InputError: the constraint takes too much.
        """
        row = self.sequence.sampler_row(eos_token_ids, vocab_size)
        row = replace(row, banned=self._rules.banned_at(len(row.generated_ids)))
        first_id = self._rules.first_at(len(row.generated_ids))
        if first_id is None:
            return row
        only = torch.zeros(vocab_size, dtype=torch.bool)
        only[first_id] = True
        return replace(row, allowed=only)

    def search(
        self, logits: Float[Tensor, "lines vocab"], eos_token_ids: frozenset[int]
    ) -> FinishReason | None:
        """Prolong the lines by the best continuations; where that was the last step, tell the best answer.

        Raises:
            CynosureError: the search can't go on.
        """
        if self._search is None:
            self._search = BeamSearch(
                self.request.params, self.sequence.token_ids, eos_token_ids, self._rules
            )
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
