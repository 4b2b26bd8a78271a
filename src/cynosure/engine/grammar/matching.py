"""Say what holds an answer to a form, token by token. Knows nothing of any form."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Bool
from torch import Tensor


class Matcher(Protocol):
    """Where one answer stands in its form. For one thread."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole and nothing may follow."""
        ...

    def allowed(self, vocab_size: int) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next; end tokens are among them exactly where the answer may end.

        Raises:
            InputError: finding them takes too much.
        """
        ...

    def accept(self, token_id: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            InputError: the form can't be followed any further.
        """
        ...


class Compiled(Protocol):
    """A form that answers can be held to; its matchers are for one thread."""

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        ...

    def matcher(self) -> Matcher:
        """Stand before the first token of an answer."""
        ...
