"""Say how many pages of a long sequence a request attends to. Knows nothing of how they are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError

#: The first page and the last two are always among them, and one is to be chosen.
MIN_PAGES = 4
DEFAULT_CHECK_EVERY = 16


@dataclass(frozen=True)
class PageSelection:
    """Attend to `num_pages` pages a layer and K/V head while tokens are generated; a prompt is read exactly.

    Of `check_every` tokens one is computed exactly, and tells which share of the attention the chosen pages
    have.
    """

    num_pages: int
    check_every: int = DEFAULT_CHECK_EVERY

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: fewer pages than are always in, or a check of no token.
        """
        if self.num_pages < MIN_PAGES:
            raise InputError(
                f"page_selection has {self.num_pages} pages; the limit is {MIN_PAGES}. Raise it."
            )
        if self.check_every < 1:
            raise InputError(f"check_every is {self.check_every}; the limit is 1. Raise it.")

    def is_due(self, num_generated: int) -> bool:
        """Whether the step after so many tokens is computed exactly."""
        return num_generated % self.check_every == 0
