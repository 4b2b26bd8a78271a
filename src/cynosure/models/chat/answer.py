"""Read an answer as thought, said and called, as its text arrives. Knows nothing of tokens or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cynosure.models.chat.reasoning import Piece, ReasoningSplit
from cynosure.models.chat.tool_calls import ToolCall, ToolCallReader


@dataclass(frozen=True)
class Thought:
    """A piece of reasoning."""

    text: str


@dataclass(frozen=True)
class Said:
    """A piece of the answer itself."""

    text: str


Part: TypeAlias = Thought | Said | ToolCall


class AnswerReader:
    """Reads one answer; `push` its text as it comes, then `finish` once.

    Args:
        reasoning: What splits off reasoning; None where the model does none.
        calls: What finds calls; None where no functions were offered.
    """

    def __init__(self, reasoning: ReasoningSplit | None, calls: ToolCallReader | None) -> None:
        """Start before the first character."""
        self._reasoning = reasoning
        self._calls = calls

    @property
    def num_calls(self) -> int:
        """How many calls were found."""
        return 0 if self._calls is None else self._calls.num_calls

    def push(self, text: str) -> list[Part]:
        """What is final now."""
        pieces = [Piece(text, False)] if self._reasoning is None else self._reasoning.push(text)
        return [part for piece in pieces for part in self._read(piece)]

    def finish(self) -> list[Part]:
        """What was held back."""
        pieces = [] if self._reasoning is None else self._reasoning.finish()
        parts = [part for piece in pieces for part in self._read(piece)]
        return parts if self._calls is None else [*parts, *map(_part, self._calls.finish())]

    def _read(self, piece: Piece) -> list[Part]:
        if piece.is_reasoning:
            return [Thought(piece.text)]
        found = [piece.text] if self._calls is None else self._calls.push(piece.text)
        return [_part(item) for item in found if item]


def _part(item: str | ToolCall) -> Part:
    return Said(item) if isinstance(item, str) else item
