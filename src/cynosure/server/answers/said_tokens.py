"""Place the tokens of an answer in what it says. Knows no protocol, nor what tokens attended to.

What tokens spell is more than what is said: reasoning and calls of functions are taken out of it. Whoever
tells of sentences counts in code points of what is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cynosure.insight import PromptSegments, ReadToken, shares_by_part
from cynosure.server.answers.continuation import Placed
from cynosure.server.services import Token


class SaidTokens:
    """Collects tokens and what is said, as they come."""

    def __init__(self) -> None:
        """Start before the first."""
        self._placed: list[Placed] = []
        self._said: list[str] = []

    def hear(self, text: str) -> None:
        """Take what is said next."""
        self._said.append(text)

    def add(self, placed: Iterable[Placed]) -> None:
        """Take tokens, in order."""
        self._placed += placed

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(self._said)

    def tokens(self, segments: PromptSegments) -> list[ReadToken] | None:
        """The tokens, placed in what was said; those before it have places below 0.

        Returns:
            None where what was said can't be told from the rest of what the tokens spell.
        """
        start = _start_of(self.text, _spelled(self._placed))
        if start is None:
            return None
        return [read_token(placed.token, placed.start - start, segments) for placed in self._placed]


def _spelled(placed: Sequence[Placed]) -> str:
    """What the tokens spell; text that no token stands behind comes last, and is not among it."""
    return "".join(one.token.text for one in placed)


def _start_of(said: str, spelled: str) -> int | None:
    """Where in what tokens spell it begins that something is said."""
    if spelled.startswith(said) or said.startswith(spelled):
        return 0
    place = spelled.rfind(said)
    # Behind what is thought it is the end; between thoughts and calls it may be anywhere, but once.
    is_end = spelled[place + len(said) :].strip() == ""
    return place if place >= 0 and (is_end or spelled.find(said) == place) else None


def read_token(token: Token, start: int, segments: PromptSegments) -> ReadToken:
    """A chosen token that begins at `start`, and what it attended to by part."""
    assert token.token_id is not None, "only chosen tokens are placed"
    attended = token.attended
    if attended is None:
        return ReadToken(token.token_id, token.text, start, token.logprob)
    shares = shares_by_part(segments, attended.masses, attended.sink, attended.entropy_bits)
    return ReadToken(token.token_id, token.text, start, token.logprob, shares, attended.folds)
