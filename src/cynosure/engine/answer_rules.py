"""Say what a checkpoint's answers begin with, and never hold. Knows nothing of tensors or of any request."""

from __future__ import annotations

from dataclasses import dataclass

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True)
class AnswerRules:
    """How an encoder-decoder's checkpoint has its answers formed.

    - `start_id`: is read first, and not told.
    - `first_id`: what is told first, where there is one.
    - `banned`: never told (Marian starts with its padding, whose logit means nothing later);
      `banned_first`: not told first (Whisper's end of a silence that has not begun).
    """

    start_id: int
    first_id: int | None = None
    banned: frozenset[int] = _NOTHING
    banned_first: frozenset[int] = _NOTHING

    def banned_at(self, num_generated: int) -> frozenset[int]:
        """What may not be told behind so many tokens."""
        return self.banned if num_generated else self.banned | self.banned_first

    def first_at(self, num_generated: int) -> int | None:
        """What must be told behind so many tokens; `None` where anything may be."""
        return None if num_generated else self.first_id
