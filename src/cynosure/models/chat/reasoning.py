"""Split what a model thinks from what it says, as the text arrives. Knows nothing of tokens or templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


@dataclass(frozen=True)
class Piece:
    """Text that is final, and whether it was thought or said."""

    text: str
    is_reasoning: bool


class ReasoningSplit:
    """Reads one answer; `push` its text as it comes, then `finish` once.

    Tags give no text, nor does white space at the edges of a span or between a span and the answer: templates
    put line breaks there. Only what could still be a tag, or such white space, is held back. A span that
    nobody closes goes on to the end.

    Args:
        is_inside: Whether the prompt has opened a span.
    """

    def __init__(self, is_inside: bool = False) -> None:
        """Start before the first character."""
        self._is_inside = is_inside
        self._is_at_edge = is_inside
        self._held = ""

    @property
    def is_inside(self) -> bool:
        """Whether what comes next is thought."""
        return self._is_inside

    def push(self, text: str) -> list[Piece]:
        """The text that is final now."""
        self._held += text
        pieces: list[Piece] = []
        while True:
            tag = CLOSE if self._is_inside else OPEN
            place = self._held.find(tag)
            if place < 0:
                break
            before, self._held = self._held[:place], self._held[place + len(tag) :]
            pieces += self._final(before.rstrip() if self._is_inside else before)
            self._is_inside = not self._is_inside
            self._is_at_edge = True
        ready = len(self._held) - _num_claimed(self._held, tag)
        if self._is_inside:
            ready = len(self._held[:ready].rstrip())
        final, self._held = self._held[:ready], self._held[ready:]
        return pieces + self._final(final)

    def finish(self) -> list[Piece]:
        """What was held back for a tag that never came."""
        rest, self._held = self._held, ""
        return self._final(rest.rstrip() if self._is_inside else rest)

    def _final(self, text: str) -> list[Piece]:
        if self._is_at_edge:
            text = text.lstrip()
        self._is_at_edge = self._is_at_edge and not text
        return [Piece(text, self._is_inside)] if text else []


def _num_claimed(text: str, tag: str) -> int:
    """How many characters at the end are the beginning of a tag."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-length:]):
            return length
    return 0
