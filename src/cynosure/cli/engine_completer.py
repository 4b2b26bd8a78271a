"""Answer completions with an engine: text in, text out, many at once. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

from cynosure.cli.mailbox import DeliveryRound, Mailbox
from cynosure.core.errors import CynosureError, DeadlineUnmet, EngineFault, InputTooLong
from cynosure.engine import (
    Cancelled,
    Constraint,
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptLogprobs,
    RefusalReason,
    Refused,
    Request,
    SamplingParams,
    TokenEvent,
)
from cynosure.engine.pool.card import ModelCard
from cynosure.insight import WatchPolicy
from cynosure.models.chat.format import ChatFormat
from cynosure.models.text.stream_decoder import StreamDecoder
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.server.services import Generation, ScoredToken, Token, Tokens

_FINISH = {
    FinishReason.EOS: "stop",
    FinishReason.STOP: "stop",
    FinishReason.COMPLETE: "stop",
    FinishReason.LENGTH: "length",
}

_TERMINAL = (Finished, Refused, Failed, Cancelled)
_UNWATCHED = WatchPolicy()


class EnginePort(Protocol):
    """An engine for one model, in this process or behind a connection."""

    @property
    def load(self) -> EngineLoad:
        """How busy it is; a moment old."""
        ...

    def submit(self, request: Request, notify: Callable[[Event], None]) -> None:
        """Check a request at once, then begin it; `notify` is called on another thread and must not block."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request."""
        ...

    def grammar(self, constraint: Constraint, tenant: str = "") -> Future[Any]:
        """Have a constraint ready."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


class EngineCompleter:
    """What `/v1/completions` and chat ask, answered by an engine."""

    def __init__(
        self,
        name: str,
        card: ModelCard,
        tokenizer: Tokenizer,
        chat: ChatFormat | None,
        engine: EnginePort,
        watching: WatchPolicy = _UNWATCHED,
    ) -> None:
        """Put text before an engine; `card` says which tokens end an answer, and how long it may be."""
        self.name = name
        self.max_model_len: int | None = card.max_model_len
        self.watchable = card.watchable
        self.watching = watching
        self.tokenizer = tokenizer
        self.chat = chat
        self.engine = engine
        self._eos_token_ids = card.eos_token_ids
        self._round: DeliveryRound | None = None

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is; a moment old."""
        return self.engine.load

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a prompt, with what the checkpoint puts before it."""
        return self.tokenizer.encode(text).ids

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """Have the constraint ready, so that one which is not usable shows before the first token.

        Raises:
            InputError: it does not compile, or not within the limits.
            MissingPackage, EngineFault: nobody can compile it, now or at all.
        """
        if sampling.constraint is not None:
            grammar = self.engine.grammar(sampling.constraint, tenant)
            # Others may wait for the same one: whoever leaves must not take it along.
            await asyncio.shield(asyncio.wrap_future(grammar))

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """Check the prompt at once; then give tokens as they are chosen. Closing it takes the request back.

        Needs a running event loop.

        Raises:
            EmptyInput, InputError, InputTooLong: the prompt or the sampling is not of this model.
        """
        loop = asyncio.get_running_loop()
        if self._round is None or self._round.loop is not loop:
            self._round = DeliveryRound(loop)
        request_id, mailbox = uuid.uuid4().hex, Mailbox(self._round)

        def notify(event: Event) -> None:
            if asked.on_report is not None and isinstance(event, _TERMINAL) and event.report is not None:
                loop.call_soon_threadsafe(asked.on_report, event.report)
            mailbox.put(event)

        self.engine.submit(_request(request_id, asked, tenant), notify)
        tokens = self._tokens(request_id, mailbox, asked)
        # A generator that is dropped before its first token never runs, nor its `finally`.
        weakref.finalize(tokens, self.engine.cancel, request_id)
        return tokens

    def close(self) -> None:
        """Stop the engine; what is under way fails."""
        self.engine.close()

    async def _tokens(self, request_id: str, mailbox: Mailbox, asked: Generation) -> Tokens:
        shown = () if self.chat is None else self.chat.shown_tokens
        decoder = self.tokenizer.stream(skip_special_tokens=asked.skips_special, shown=shown)
        reader = _Reader(decoder, asked.sampling, asked.sampling.ends(self._eos_token_ids))
        try:
            while not reader.is_done:
                together: list[Token] = []
                try:
                    for event in await mailbox.take():
                        together += reader.read(event)
                except CynosureError:
                    # Tokens that were told stand.
                    if together:
                        yield together
                    raise
                if together:
                    yield together
        finally:
            self.engine.cancel(request_id)


class _Reader:
    """Reads the events of one request as tokens with their text."""

    def __init__(self, decoder: StreamDecoder, sampling: SamplingParams, ends: Collection[int]) -> None:
        self._decoder = decoder
        self._sampling = sampling
        self._ends = ends
        self._last: TokenEvent | None = None
        self._prompt: list[ScoredToken] = []
        self.is_done = False

    def read(self, event: Event) -> list[Token]:
        """What an event gives, if anything.

        Raises:
            CynosureError: why there will be no more.
        """
        if isinstance(event, TokenEvent):
            if event.token_id in self._ends:
                # It is no text, whatever the tokenizer makes of it; why it ended is told next.
                self._last = event
                return []
            token = _token(event, self._decoder.push(event.token_id), self._sampling, self._prompt)
            self._prompt = []
            return [token]
        if isinstance(event, PromptLogprobs):
            self._prompt += map(ScoredToken, event.tokens, event.top_logprobs)
            return []
        if not isinstance(event, Finished):
            raise _error_of(event)
        self.is_done = True
        rest = self._decoder.finish()
        end = replace(
            _token(self._last, "", self._sampling, self._prompt),
            finish_reason=_FINISH[event.reason],
            num_cached=event.usage.cached_tokens,
        )
        return [Token(rest), end] if rest else [end]


def _request(request_id: str, asked: Generation, tenant: str) -> Request:
    deadline_s = None if asked.deadline_ms is None else time.monotonic() + asked.deadline_ms / 1000
    return Request(
        request_id,
        asked.token_ids,
        asked.sampling,
        tenant,
        asked.priority,
        deadline_s,
        segments=asked.segments,
        is_reproducible=asked.is_reproducible,
        session=asked.session,
        speculation=asked.speculation,
        watch=asked.watch,
        bias=asked.bias,
        page_selection=asked.page_selection,
        group=asked.group,
        is_background=asked.is_background,
        bias_from=asked.bias_from,
    )


def _token(
    event: TokenEvent | None, text: str, sampling: SamplingParams, prompt: Sequence[ScoredToken]
) -> Token:
    """A chosen token, or the end alone."""
    if event is None:
        return Token(text, prompt_logprobs=tuple(prompt))
    logprob = None if sampling.logprobs is None else event.logprob
    return Token(
        text,
        num_cached=event.cached_tokens,
        token_id=event.token_id,
        logprob=logprob,
        top_logprobs=event.top_logprobs,
        prompt_logprobs=tuple(prompt),
        attended=event.attended,
    )


def _error_of(event: Failed | Refused | Cancelled) -> CynosureError:
    if isinstance(event, Failed):
        return event.error
    if isinstance(event, Refused):
        if event.reason is RefusalReason.TOO_LARGE:
            return InputTooLong(event.message)
        return DeadlineUnmet(event.message, event.predicted_wait_s or 1.0)
    return EngineFault("the request was cancelled before its answer was complete. Send it again.")
