"""Follow one sequence from tokens to text that is final. Knows no protocol, nor how a token is chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Literal, NamedTuple

from cynosure.server.services import ScoredToken, Token, Tokens
from cynosure.server.stop_text import StopText

#: Why a text ended.
TextEnd = Literal["stop", "length", "content_filter"]

_ENDS: dict[str, TextEnd] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class Placed(NamedTuple):
    """A chosen token, and where its text begins in what was continued with, in code points."""

    token: Token
    start: int

    @property
    def is_end(self) -> bool:
        """Whether it only ended the text."""
        return self.token.finish_reason is not None and not self.token.text


class Piece(NamedTuple):
    """Text that is final, with the tokens that begin in it, or before it and were held back."""

    text: str
    tokens: tuple[Placed, ...] = ()
    #: How many were chosen until here.
    num_chosen: int = 0


def ids_of(tokens: Sequence[Placed]) -> list[int]:
    """Their ids."""
    return [placed.token.token_id for placed in tokens if placed.token.token_id is not None]


def joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces that follow each other, as one."""
    if len(pieces) == 1:
        return pieces[0]
    tokens = tuple(placed for piece in pieces for placed in piece.tokens)
    return Piece("".join(piece.text for piece in pieces), tokens, pieces[-1].num_chosen if pieces else 0)


class Continuation:
    """One sequence under way: its text, why it ended, and what it has cost so far.

    Tokens of a stop string are counted and not handed out, as the string itself is not. `num_cached` and
    `prompt_logprobs` are known from the first token on.
    """

    def __init__(self, tokens: Tokens, stop: StopText) -> None:
        """Start before the first token."""
        self.stop = stop
        self.num_tokens = 0
        self.num_cached = 0
        self.end: TextEnd = "length"
        self.prompt_logprobs: tuple[ScoredToken, ...] = ()
        self.token_ids: list[int] = []
        self._tokens = tokens
        self._first: Iterable[Token] | None = None
        self._held: list[Placed] = []
        self._num_read = 0
        self._num_given = 0

    async def begin(self) -> None:
        """Wait until the first token is there; what fails before it fails here, where a status can say so."""
        while self._first is None:
            # A guard may give nothing for tokens that it holds back.
            together = await anext(self._tokens, None)
            if together is None:
                self._first = ()
            else:
                rest = iter(together)
                token = next(rest, None)
                self._first = None if token is None else chain((token,), rest)

    async def pieces(self) -> AsyncGenerator[tuple[Piece, ...]]:
        """What is final, those together that came together; closing it takes the sequence back."""
        async with aclosing(self._tokens):
            await self.begin()
            together, self._first = self._first, None
            while together is not None:
                pieces = self._read_all(together)
                if pieces:
                    yield pieces
                if self.stop.is_stopped:
                    self.end = "stop"
                    return
                together = await anext(self._tokens, None)
        rest = self.stop.finish()
        self._num_given += len(rest)
        if rest or self._held:
            yield (Piece(rest, tuple(self._held), self.num_tokens),)

    def _read_all(self, tokens: Iterable[Token]) -> tuple[Piece, ...]:
        """Pieces of tokens; what follows a stop string is neither read nor counted."""
        pieces = []
        for token in tokens:
            text = self._read(token)
            if text:
                pieces.append(self._piece(text))
            if self.stop.is_stopped:
                break
        return tuple(pieces)

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
        return Piece(text, tuple(ready), self.num_tokens)
