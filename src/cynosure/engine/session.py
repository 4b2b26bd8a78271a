"""Name a session, whose pages are kept for its next request. Knows nothing of pages or files."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError

MAX_NAME_CHARS = 512


@dataclass(frozen=True)
class Session:
    """Which session of its tenant a request belongs to.

    The pages of its last request stay in memory after all unnamed ones have given way; where it
    `is_on_disk`, they are written there too, and found after a restart.
    """

    name: str
    is_on_disk: bool = False

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            InputError: it is empty, or too long.
        """
        if not 1 <= len(self.name) <= MAX_NAME_CHARS:
            raise InputError(
                f"the session's name has {len(self.name)} characters; it may have 1 to {MAX_NAME_CHARS}. "
                "Change it."
            )
