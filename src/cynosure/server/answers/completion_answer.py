"""Answer several prompts, each by several sequences, in OpenAI's words. Knows nothing of HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import UnknownOption
from cynosure.engine import constraints
from cynosure.engine.request import TokenLogprob
from cynosure.engine.sampling import SamplingParams
from cynosure.insight import PromptSegments
from cynosure.models.fill_in import fill_in
from cynosure.server.answers.attention import AttentionPlan, AttentionTeller
from cynosure.server.answers.attention_segments import text_segments, token_segments
from cynosure.server.answers.completion_prompt import EchoedPrompt, read_text, read_tokens
from cynosure.server.answers.continuation import Continuation, Piece, Placed, ids_of, joined
from cynosure.server.answers.grounding import GroundingTeller
from cynosure.server.answers.interleave import interleaved
from cynosure.server.answers.siblings import continued
from cynosure.server.answers.token_words import LogprobRows, prompt_rows
from cynosure.server.schemas.completions import (
    Choice,
    Completion,
    CompletionRequest,
    Logprobs,
    PromptTokensDetails,
    Usage,
)
from cynosure.server.services import CompletionModel, ScoredToken, Token, Tokens
from cynosure.server.stream import Blank, Event

#: What OpenAI's reference documents where `max_tokens` is left out.
DEFAULT_MAX_TOKENS = 16


@dataclass
class _Sequence:
    """One sequence of one prompt: what was said of it so far."""

    index: int
    prompt: EchoedPrompt
    text: Continuation
    teller: AttentionTeller | None = None
    quotes: GroundingTeller | None = None
    is_echoed: bool = False
    sum_logprobs: float = 0.0
    said: list[Piece] = field(default_factory=list)

    @property
    def listeners(self) -> list[GroundingTeller | AttentionTeller]:
        """Who is told what is said."""
        return [one for one in (self.quotes, self.teller) if one is not None]

    @property
    def mean_logprob(self) -> float:
        """How likely its tokens are, by token."""
        return self.sum_logprobs / max(1, self.text.num_tokens)


class CompletionAnswer:
    """All sequences of a request, under way."""

    def __init__(self, model: CompletionModel, body: CompletionRequest, sequences: list[_Sequence]) -> None:
        """Start before the first token."""
        self._model = model
        self._body = body
        self._sequences = sequences
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())

    async def begin(self) -> None:
        """Wait for the first token of all."""
        await self._sequences[0].text.begin()

    async def whole(self) -> Completion:
        """All of it at once."""
        async with aclosing(self._pieces()) as coming:
            async for place, pieces in coming:
                self._sequences[place].said += pieces
        choices = [self._choice(place, sequence) for place, sequence in enumerate(self._best())]
        return self._part(choices).model_copy(update={"usage": self._usage()})

    async def events(self) -> AsyncGenerator[Event]:
        """It in pieces, as they come; of each sequence, the last says why it ended."""
        blanks = [self._blank(sequence) for sequence in self._sequences] if self._is_plain else []
        async with aclosing(self._pieces()) as coming:
            async for place, pieces in coming:
                piece = joined(pieces)
                if blanks:
                    yield blanks[place].filled(piece.text, ids_of(piece.tokens))
                else:
                    yield self._event(self._piece(self._sequences[place], piece))
        for sequence in self._sequences:
            yield self._event(self._piece(sequence, Piece(""), is_last=True))
        if self._body.wants_usage:
            yield self._part([]).model_copy(update={"usage": self._usage()}).model_dump()

    @property
    def _is_plain(self) -> bool:
        """Whether pieces of the answer hold nothing but text and ids."""
        is_more = self._body.logprobs is not None or self._body.echo is True
        return not is_more and self._sequences[0].teller is None

    def _blank(self, sequence: _Sequence) -> Blank:
        def made(text: str, token_ids: Sequence[int]) -> Mapping[str, object]:
            tokens = tuple(Placed(Token("", token_id=token_id), 0) for token_id in token_ids)
            return self._event(self._piece(sequence, Piece(text, tokens)))

        return Blank(made)

    def _event(self, choice: Choice) -> Mapping[str, object]:
        # Clients that asked for usage get the field in each part, null until the last.
        return self._part([choice]).model_dump(exclude=None if self._body.wants_usage else {"usage"})

    def _pieces(self) -> AsyncGenerator[tuple[int, tuple[Piece, ...]]]:
        return interleaved(
            [
                _overheard(sequence.text, sequence.listeners)
                if sequence.listeners
                else sequence.text.pieces()
                for sequence in self._sequences
            ]
        )

    def _best(self) -> list[_Sequence]:
        """Of each prompt the likeliest sequences, in the order of the prompts."""
        size, wanted = self._body.num_sequences, self._body.num_choices
        if size == wanted:
            return self._sequences
        for sequence in self._sequences:
            tokens = [placed.token for piece in sequence.said for placed in piece.tokens]
            sequence.sum_logprobs = sum(token.logprob or 0.0 for token in tokens)
        return [
            sequence
            for start in range(0, len(self._sequences), size)
            for sequence in sorted(
                self._sequences[start : start + size], key=lambda one: one.mean_logprob, reverse=True
            )[:wanted]
        ]

    def _choice(self, index: int, sequence: _Sequence) -> Choice:
        choice = self._piece(sequence, joined(sequence.said), is_last=True)
        choice.index = index
        wanted = self._body.prompt_logprobs
        if wanted is not None:
            choice.prompt_logprobs = prompt_rows(
                self._model.tokenizer, self._prompt_logprobs(sequence), wanted
            )
        return choice

    def _piece(self, sequence: _Sequence, piece: Piece, is_last: bool = False) -> Choice:
        """The next part of a sequence; the first of an echo has the prompt before it."""
        is_echo = self._body.echo is True and not sequence.is_echoed
        sequence.is_echoed = True
        choice = Choice(
            index=sequence.index,
            text=(sequence.prompt.text if is_echo else "") + piece.text,
            logprobs=self._logprobs(sequence, piece, is_echo),
            finish_reason=sequence.text.end if is_last else None,
        )
        if self._body.return_token_ids:
            choice.token_ids = ids_of(piece.tokens)
            if is_last:
                choice.prompt_token_ids = list(sequence.prompt.token_ids)
        told = None if sequence.teller is None else sequence.teller.piece(piece.tokens, is_last=is_last)
        if told is not None:
            choice.attention = told
        if is_last and sequence.quotes is not None:
            choice.grounding = sequence.quotes.report
        return choice

    def _logprobs(self, sequence: _Sequence, piece: Piece, is_echo: bool) -> Logprobs | None:
        if self._body.logprobs is None:
            return None
        told = LogprobRows(self._model.tokenizer, self._body.logprobs)
        prompt, before = sequence.prompt, len(sequence.prompt.text) if self._body.echo else 0
        if is_echo:
            told.add_first(prompt.token_ids[0], prompt.starts[0])
            for scored, start in zip(self._prompt_logprobs(sequence), prompt.starts[1:], strict=True):
                told.add(scored.token, scored.top, start)
        for token, start in ((placed.token, placed.start) for placed in piece.tokens):
            assert token.token_id is not None, "only chosen tokens are placed"
            assert token.logprob is not None, "log-probabilities were asked for"
            told.add(TokenLogprob(token.token_id, token.logprob), token.top_logprobs, before + start)
        return told.rows

    def _prompt_logprobs(self, sequence: _Sequence) -> tuple[ScoredToken, ...]:
        # The first sequence of a prompt has it read; its siblings are told the same.
        first = sequence.index - sequence.index % self._body.num_sequences
        return self._sequences[first].text.prompt_logprobs

    def _part(self, choices: list[Choice]) -> Completion:
        return Completion(id=self._id, created=self._created, model=self._model.name, choices=choices)

    def _usage(self) -> Usage:
        """What it cost so far; a prompt counts once, however many sequences go on from it."""
        firsts = self._sequences[:: self._body.num_sequences]
        num_prompt_tokens = sum(len(sequence.prompt.token_ids) for sequence in firsts)
        num_tokens = sum(sequence.text.num_tokens for sequence in self._sequences)
        return Usage(
            prompt_tokens=num_prompt_tokens,
            completion_tokens=num_tokens,
            total_tokens=num_prompt_tokens + num_tokens,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=sum(sequence.text.num_cached for sequence in firsts)
            ),
        )


async def _read(
    model: CompletionModel, body: CompletionRequest, prompt: str | list[int]
) -> tuple[EchoedPrompt, tuple[int, ...]]:
    """A prompt, and the tokens that end what follows it beside those asked for."""
    if body.suffix is not None:
        if not isinstance(prompt, str):
            raise UnknownOption("suffix goes with a prompt that is text; this one is tokens. Send text.")
        filled = await run_in_threadpool(fill_in, model.tokenizer, prompt, body.suffix)
        return EchoedPrompt(filled.token_ids, "", ()), filled.end_ids
    if body.echo:
        if isinstance(prompt, str):
            return await run_in_threadpool(read_text, model.tokenizer, prompt), ()
        skips = body.skip_special_tokens is not False
        return await run_in_threadpool(read_tokens, model.tokenizer, prompt, skips_special=skips), ()
    token_ids = await run_in_threadpool(model.encode, prompt) if isinstance(prompt, str) else prompt
    return EchoedPrompt(tuple(token_ids), "", ()), ()


def _segments(
    model: CompletionModel, body: CompletionRequest, written: str | list[int], token_ids: tuple[int, ...]
) -> PromptSegments:
    """Whose the tokens of a prompt are; one with a gap in it is no text that offsets could count in."""
    if isinstance(written, str) and body.suffix is None:
        spans = (body.attention.segments if body.attention is not None else None) or ()
        named = [(span.id, span.start, span.end) for span in spans]
        return text_segments(model.tokenizer, written, token_ids, named)
    return token_segments(token_ids)


async def _overheard(
    text: Continuation, listeners: Sequence[GroundingTeller | AttentionTeller]
) -> AsyncGenerator[tuple[Piece, ...]]:
    async with aclosing(text.pieces()) as coming:
        async for pieces in coming:
            said = "".join(piece.text for piece in pieces)
            for listener in listeners:
                listener.hear(said)
            yield pieces


def _held(
    model: CompletionModel, body: CompletionRequest, written: str | list[int], sampling: SamplingParams
) -> SamplingParams:
    """The sampling of one prompt: whether names are begun in it depends on where it ends."""
    if body.names is None:
        return sampling
    before = written if isinstance(written, str) else model.tokenizer.decode(written)
    return replace(sampling, constraint=constraints.names(body.names, before=before))


async def begin_answer(model: CompletionModel, body: CompletionRequest) -> CompletionAnswer:
    """Have every prompt checked and begun; what is wrong with one shows here, and none is left running."""
    quoted, asked_of_all = body.quoted, body.sampling(DEFAULT_MAX_TOKENS)
    prompts = [await _read(model, body, prompt) for prompt in body.prompts]
    held = [await run_in_threadpool(_held, model, body, one, asked_of_all) for one in body.prompts]
    for sampling in dict.fromkeys(held):
        await model.prepare(sampling)
    sequences: list[_Sequence] = []
    begun: list[Tokens] = []
    try:
        for written, (prompt, extra_stops), sampling in zip(body.prompts, prompts, held, strict=True):
            stops = (*sampling.stop_token_ids, *extra_stops)
            attention = AttentionPlan(
                model, body.attention, partial(_segments, model, body, written, prompt.token_ids)
            )
            asked = attention.applied(body.asked(prompt.token_ids, replace(sampling, stop_token_ids=stops)))
            for tokens in continued(model, asked, body.num_sequences):
                begun.append(tokens)
                text = Continuation(tokens, body.stop_text)
                quotes = None if quoted is None else GroundingTeller(quoted, len(prompt.text))
                sequences.append(_Sequence(len(sequences), prompt, text, attention.teller(), quotes))
    except BaseException:
        for tokens in begun:
            await tokens.aclose()
        raise
    return CompletionAnswer(model, body, sequences)
