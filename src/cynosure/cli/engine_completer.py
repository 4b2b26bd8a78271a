"""Answer completions with an engine: text in, text out, many at once. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cynosure.core.errors import DeadlineUnmet, EngineFault, InputTooLong
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
from cynosure.models.chat.format import ChatFormat
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.server.services import Generation, ScoredToken, Token

_FINISH = {
    FinishReason.EOS: "stop",
    FinishReason.STOP: "stop",
    FinishReason.COMPLETE: "stop",
    FinishReason.LENGTH: "length",
}


_TERMINAL = (Finished, Refused, Failed, Cancelled)


@dataclass(frozen=True)
class _Pending:
    """A request's events, handed from the engine's thread to an event loop."""

    request_id: str
    mailbox: asyncio.Queue[Event]


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
        self, name: str, card: ModelCard, tokenizer: Tokenizer, chat: ChatFormat | None, engine: EnginePort
    ) -> None:
        """Put text before an engine; `card` says which tokens end an answer, and how long it may be."""
        self.name = name
        self.max_model_len: int | None = card.max_model_len
        self.watchable = card.watchable
        self.tokenizer = tokenizer
        self.chat = chat
        self.engine = engine
        self._eos_token_ids = card.eos_token_ids

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

    def complete(self, asked: Generation, tenant: str = "") -> AsyncGenerator[Token]:
        """Check the prompt at once; then give tokens as they are chosen. Closing it takes the request back.

        Needs a running event loop.

        Raises:
            EmptyInput, InputError, InputTooLong: the prompt or the sampling is not of this model.
        """
        loop = asyncio.get_running_loop()
        pending = _Pending(uuid.uuid4().hex, asyncio.Queue())

        def notify(event: Event) -> None:
            if asked.on_report is not None and isinstance(event, _TERMINAL) and event.report is not None:
                loop.call_soon_threadsafe(asked.on_report, event.report)
            loop.call_soon_threadsafe(pending.mailbox.put_nowait, event)

        self.engine.submit(_request(pending.request_id, asked, tenant), notify)
        tokens = self._tokens(pending, asked)
        # A generator that is dropped before its first token never runs, nor its `finally`.
        weakref.finalize(tokens, self.engine.cancel, pending.request_id)
        return tokens

    def close(self) -> None:
        """Stop the engine; what is under way fails."""
        self.engine.close()

    async def _tokens(self, pending: _Pending, asked: Generation) -> AsyncGenerator[Token]:
        shown = () if self.chat is None else self.chat.shown_tokens
        decoder = self.tokenizer.stream(skip_special_tokens=asked.skips_special, shown=shown)
        sampling = asked.sampling
        ends = sampling.ends(self._eos_token_ids)
        last: TokenEvent | None = None
        prompt: list[ScoredToken] = []
        try:
            while True:
                event = await pending.mailbox.get()
                if isinstance(event, TokenEvent):
                    if event.token_id in ends:
                        # It is no text, whatever the tokenizer makes of it; why it ended is told next.
                        last = event
                        continue
                    yield _token(event, decoder.push(event.token_id), sampling, prompt)
                    prompt = []
                elif isinstance(event, PromptLogprobs):
                    prompt += map(ScoredToken, event.tokens, event.top_logprobs)
                elif isinstance(event, Finished):
                    rest = decoder.finish()
                    if rest:
                        yield Token(rest)
                    end = _token(last, "", sampling, prompt)
                    yield replace(
                        end, finish_reason=_FINISH[event.reason], num_cached=event.usage.cached_tokens
                    )
                    return
                elif isinstance(event, Failed | Refused | Cancelled):
                    raise _error_of(event)
        finally:
            self.engine.cancel(pending.request_id)


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


def _error_of(event: Failed | Refused | Cancelled) -> Exception:
    if isinstance(event, Failed):
        return event.error
    if isinstance(event, Refused):
        if event.reason is RefusalReason.TOO_LARGE:
            return InputTooLong(event.message)
        return DeadlineUnmet(event.message, event.predicted_wait_s or 1.0)
    return EngineFault("the request was cancelled before its answer was complete. Send it again.")
