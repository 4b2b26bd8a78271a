"""Guess the next tokens of a sequence from what it said before. Knows nothing of models or of what is right.

Prompt lookup: where the last few tokens stood before, what followed them then may follow again, as in quotes,
edits and lists. They may have stood at many places: the one that was followed so far is followed on, past a
token that differs too. A guess costs little to check along with the next token, and nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

#: How many tokens must stand alike, the longer first.
MATCH_SIZES = (8, 5, 3)
#: Tokens that may differ from those of the place that is followed, until it is confirmed by a whole match: an
#: edit changes one and goes on.
MAX_MISSED = 1
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
        # The place that speaks of the next token, and how many differed from what it said since it was taken.
        self._place: int | None = None
        self._num_missed = 0
        self._num_followed = 0
        self._pause = 1
        self._rest = 0

    def draft(self, token_ids: Sequence[int], limit: int) -> tuple[int, ...]:
        """Return what may come next, at most `limit` tokens; nothing where nothing stood before.

        `token_ids` are those of the last call with more behind them.
        """
        self._follow(token_ids)
        if self._rest:
            self._rest -= 1
            return ()
        count = min(self._width, limit)
        if count < 1:
            return ()
        self._index(token_ids)
        if self._place is None or self._num_missed:
            self._look_up(token_ids)
        return () if self._place is None else _followed(token_ids, self._place, count)

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

    def _follow(self, token_ids: Sequence[int]) -> None:
        """Go on from the place with what was chosen since; leave it where that is something else."""
        for token_id in token_ids[self._num_followed :]:
            if self._place is None:
                break
            self._num_missed += token_ids[self._place] != token_id
            self._place = self._place + 1 if self._num_missed <= MAX_MISSED else None
        self._num_followed = len(token_ids)

    def _look_up(self, token_ids: Sequence[int]) -> None:
        """Take the last place where the last tokens stood; one that is followed stays if they did there."""
        for size in MATCH_SIZES:
            run = tuple(token_ids[-size:])
            end = self._ends.get(run) if len(token_ids) > size else None
            if end is not None:
                place = self._place
                is_one = place is not None and tuple(token_ids[max(0, place - size) : place]) == run
                self._place, self._num_missed = (place if is_one else end), 0
                return

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
