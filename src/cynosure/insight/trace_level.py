"""Order how much is kept of what an answer attended to. Knows nothing of what is kept."""

from __future__ import annotations

from enum import IntEnum


class TraceLevel(IntEnum):
    """How much is kept; each holds what the one before it does.

    - `OFF`: nothing.
    - `L0`: shares by role, on average over the answer.
    - `L1`: shares of each part by token, for each group of heads.
    - `L2`: where parts stand, as numbers, and the ids of tokens: a text, to whoever has the vocabulary.
    - `L3`: texts, and the names that callers gave.
    """

    OFF = 0
    L0 = 1
    L1 = 2
    L2 = 3
    L3 = 4

    @classmethod
    def of(cls, word: str) -> TraceLevel:
        """The level that is called so: `off`, `L0`, ...

        Raises:
            ValueError: none is.
        """
        found = next((level for level in cls if level.word == word), None)
        if found is None:
            raise ValueError(f"no level is called {word!r}; here: {', '.join(level.word for level in cls)}")
        return found

    @property
    def word(self) -> str:
        """What people call it."""
        return "off" if self is TraceLevel.OFF else self.name
