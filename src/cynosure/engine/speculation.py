"""Guess the next tokens of a sequence from what it said before. Knows nothing of models or of what is right.

Prompt lookup: where the last few tokens stood before, what followed them then may follow again, as in quotes,
edits and lists. A guess costs little to check along with the next token, and nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

#: How many tokens must stand alike, the longer first.
MATCH_SIZES = (5, 3)
FIRST_WIDTH = 4
#: Steps that pass at most before it guesses again, however often it was wrong.
MAX_REST = 32


class Drafter:
    """Guesses for one sequence, less often and less far while they are wrong.

    A guess that was right to its end doubles the next one's width, up to `max_tokens`; one that was mostly
    wrong halves it. One of which no token was right has it rest for 1 step, then 2, 4, to `MAX_REST`.
    """

    def __init__(self, max_tokens: int) -> None:
        """Have guessed nothing yet."""
        assert max_tokens > 0
        self._max_tokens = max_tokens
        self._width = min(FIRST_WIDTH, max_tokens)
        self._num_indexed = 0
        # Where each run of tokens ended last, so that something follows it.
        self._ends: dict[tuple[int, ...], int] = {}
        self._pause = 1
        self._rest = 0

    def draft(self, token_ids: Sequence[int], limit: int) -> tuple[int, ...]:
        """Return what may come next, at most `limit` tokens; nothing where nothing stood before.

        `token_ids` are those of the last call with more behind them.
        """
        if self._rest:
            self._rest -= 1
            return ()
        count = min(self._width, limit)
        if count < 1:
            return ()
        self._index(token_ids)
        for size in MATCH_SIZES:
            end = self._ends.get(tuple(token_ids[-size:])) if len(token_ids) > size else None
            if end is not None:
                return _followed(token_ids, end, count)
        return ()

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        """Note how far a guess was right."""
        assert 0 <= num_accepted <= num_drafted
        if num_accepted == num_drafted:
            self._width = min(2 * self._width, self._max_tokens)
        elif 2 * num_accepted < num_drafted:
            self._width = max(1, self._width // 2)
        if num_accepted:
            self._pause = 1
        else:
            self._rest = self._pause
            self._pause = min(2 * self._pause, MAX_REST)

    def _index(self, token_ids: Sequence[int]) -> None:
        """Note each run that has something behind it; a later one replaces an earlier."""
        for end in range(self._num_indexed, len(token_ids)):
            for size in MATCH_SIZES:
                if end >= size:
                    self._ends[tuple(token_ids[end - size : end])] = end
        self._num_indexed = len(token_ids)


def _followed(token_ids: Sequence[int], end: int, count: int) -> tuple[int, ...]:
    """What followed a place; a run that reaches the end goes on with its own beginning."""
    period = len(token_ids) - end
    return tuple(token_ids[end + place % period] for place in range(count))
