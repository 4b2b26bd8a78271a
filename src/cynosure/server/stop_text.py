"""End a text at the first stop string, though it arrives in pieces. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Hands out what no stop string can still claim; the stop string itself only where it `is_kept`."""

    def __init__(self, stops: Sequence[str], is_kept: bool = False) -> None:
        """Start before the first piece; with no stop strings, pieces pass through."""
        assert all(stops), "an empty stop string would end every text at once"
        self._stops = tuple(stops)
        self._is_kept = is_kept
        self._held = ""
        self.is_stopped = False
        #: The stop string that ended the text.
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """The text that is final now; empty once stopped."""
        if self.is_stopped:
            return ""
        if not self._stops:
            return piece
        self._held += piece
        ends = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:
            place, self.matched = min(ends)
            self.is_stopped = True
            return self._release(place + len(self.matched) * self._is_kept)
        return self._release(len(self._held) - self._num_claimed())

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        return "" if self.is_stopped else self._release(len(self._held))

    def _num_claimed(self) -> int:
        """How many characters at the end are the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
