"""Name what is asked about a gap and what is proposed for it. Computes nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from cynosure.cli.editor.extent import Extent, ended
from cynosure.cli.editor.source_lines import in_one_break, original_offset

#: Tokens of a proposal at most, where nobody says how many.
MAX_TOKENS: Mapping[Extent, int] = MappingProxyType({Extent.LINE: 64, Extent.BLOCK: 256})


@dataclass(frozen=True)
class Gap:
    """A text, and the code point before which something is to be written.

    Models are shown `\\n` between lines, whatever the text has there.
    """

    text: str
    offset: int

    @property
    def prefix(self) -> str:
        """What stands before it."""
        return in_one_break(self.text[: self.offset])

    @property
    def suffix(self) -> str:
        """What stands behind it."""
        return in_one_break(self.text[self.offset :])

    @property
    def line_before(self) -> str:
        """What stands before it on its line."""
        return self.prefix.rpartition("\n")[2]

    def as_written(self, text: str) -> str:
        """A proposal with the line breaks of the text around it."""
        first, found, _ = self.text.partition("\n")
        return text.replace("\n", "\r\n") if found and first.endswith("\r") else text

    def window(self, start: int, end: int) -> tuple[int, int]:
        """Where a window lies in the text, which begins in the prefix and ends in the suffix."""
        before, behind = self.text[: self.offset], self.text[self.offset :]
        return original_offset(before, start), self.offset + original_offset(behind, end)


@dataclass(frozen=True)
class Question:
    """What is wanted.

    - `names`: all that a proposal may use beside Python's own; None lets it use any.
    """

    gap: Gap
    extent: Extent = Extent.LINE
    names: tuple[str, ...] | None = None
    max_tokens: int | None = None

    @property
    def token_limit(self) -> int:
        """How many tokens a proposal has at most."""
        return self.max_tokens or MAX_TOKENS[self.extent]


class Piece(NamedTuple):
    """A part of what a model writes; the last tells why it ended."""

    text: str
    finish_reason: str | None = None
    num_tokens: int = 0


@dataclass(frozen=True)
class Written:
    """What was written for a gap.

    - `end`: what ended it: `line` or `block`, `stop` where the model held it to be whole, or `length`.
    """

    text: str
    end: str
    num_tokens: int
    first_ms: float


@dataclass(frozen=True)
class Filling:
    """A proposal, as it is to be inserted, and what it was made from.

    - `window`: the part of the text that the model saw, in code points.
    - `num_prompt_tokens`: None where who computed does not say.
    - `first_ms`, `total_ms`: until the first token was there, and until all was.
    """

    text: str
    end: str
    window: tuple[int, int]
    num_prompt_tokens: int | None
    num_tokens: int
    first_ms: float
    total_ms: float


class Filler(Protocol):
    """Whoever proposes."""

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    async def fill(self, question: Question) -> Filling:
        """Propose; whoever cancels this ends the work too.

        Raises:
            CynosureError: nothing can be proposed, and why.
        """
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


async def written(pieces: AsyncGenerator[Piece], question: Question, begun_s: float) -> Written:
    """Read until the proposal ends, and hang up there; times count from `begun_s`, by `time.perf_counter`."""
    text, num_tokens, first_ms, reason = "", 0, 0.0, "stop"
    line_before, end = question.gap.line_before, None
    async with aclosing(pieces) as coming:
        async for piece in coming:
            first_ms = first_ms or 1e3 * (time.perf_counter() - begun_s)
            text += piece.text
            num_tokens += piece.num_tokens
            reason = piece.finish_reason or reason
            end = ended(text, question.extent, line_before)
            if end is not None:
                break
    if end is None:
        return Written(question.gap.as_written(text), reason, num_tokens, first_ms)
    return Written(question.gap.as_written(end), question.extent.value, num_tokens, first_ms)
