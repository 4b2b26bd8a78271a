"""Follow one sequence from tokens to text that is final. Knows no protocol, nor how a token is chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from cynosure.server.services import ScoredToken, Token
from cynosure.server.stop_text import StopText

#: Why a text ended.
TextEnd = Literal["stop", "length", "content_filter"]

_ENDS: dict[str, TextEnd] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


@dataclass(frozen=True)
class Placed:
    """A chosen token, and where its text begins in what was continued with, in code points."""

    token: Token
    start: int

    @property
    def is_end(self) -> bool:
        """Whether it only ended the text."""
        return self.token.finish_reason is not None and not self.token.text


@dataclass(frozen=True)
class Piece:
    """Text that is final, with the tokens that begin in it, or before it and were held back."""

    text: str
    tokens: tuple[Placed, ...] = ()


class Continuation:
    """One sequence under way: its text, why it ended, and what it has cost so far.

    Tokens of a stop string are counted and not handed out, as the string itself is not. `num_cached` and
    `prompt_logprobs` are known from the first token on.
    """

    def __init__(self, tokens: AsyncGenerator[Token], stop: StopText) -> None:
        """Start before the first token."""
        self.stop = stop
        self.num_tokens = 0
        self.num_cached = 0
        self.end: TextEnd = "length"
        self.prompt_logprobs: tuple[ScoredToken, ...] = ()
        self.token_ids: list[int] = []
        self._tokens = tokens
        self._first: Token | None = None
        self._held: list[Placed] = []
        self._num_read = 0
        self._num_given = 0

    async def begin(self) -> None:
        """Wait until the first token is there; what fails before it fails here, where a status can say so."""
        if self._first is None:
            self._first = await anext(self._tokens, None)

    async def pieces(self) -> AsyncGenerator[Piece]:
        """What is final, as it comes; closing it takes the sequence back."""
        async with aclosing(self._tokens):
            await self.begin()
            token, self._first = self._first, None
            while token is not None:
                text = self._read(token)
                if text:
                    yield self._piece(text)
                if self.stop.is_stopped:
                    self.end = "stop"
                    return
                token = await anext(self._tokens, None)
        rest = self.stop.finish()
        self._num_given += len(rest)
        if rest or self._held:
            yield Piece(rest, tuple(self._held))

    def _read(self, token: Token) -> str:
        """Count a token; return the text that is final with it."""
        self.num_cached = max(self.num_cached, token.num_cached)
        if token.finish_reason is not None:
            self.end = _ENDS[token.finish_reason]
        if token.prompt_logprobs:
            self.prompt_logprobs = token.prompt_logprobs
        if token.token_id is not None:
            self.num_tokens += 1
            self.token_ids.append(token.token_id)
            self._held.append(Placed(token, self._num_read))
        self._num_read += len(token.text)
        return self.stop.push(token.text)

    def _piece(self, text: str) -> Piece:
        self._num_given += len(text)
        count = sum(placed.start < self._num_given for placed in self._held)
        ready, self._held = self._held[:count], self._held[count:]
        return Piece(text, tuple(ready))
