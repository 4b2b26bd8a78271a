"""Hold an answer to quotes of given texts. Knows nothing of requests, batches or models.

An answer is one quote or more, a line break between two. Each is a run of characters of one text, word for
word; the model chooses where it begins and ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar.quotable import NEW_QUOTE, Crossings, Quotable
from cynosure.engine.grammar.token_trie import TokenTrie

#: CPU time for one mask, in seconds, so that a busy machine fails nobody.
MAX_MASK_SECONDS = 0.05


class Verbatim:
    """Texts that answers must quote."""

    def __init__(
        self, tokens: TokenTrie, crossings: Crossings, texts: Sequence[str], min_chars: int = 1
    ) -> None:
        """Find which tokens stand where in the texts.

        Raises:
            InputError: nothing can be quoted.
        """
        self.tokens = tokens
        self.quotable = Quotable(tokens, crossings, texts, min_chars)
        if not self.quotable.has_starts:
            raise InputError(
                f"no text has {min_chars} characters in a row that this model can spell. Send longer texts, "
                "or lower min_chars."
            )
        self.first = self.quotable.allowed_first()

    @classmethod
    def of(cls, constraint: Constraint, tokens: TokenTrie, crossings: Crossings) -> Verbatim:
        """Read it from a constraint."""
        asked = json.loads(constraint.text)
        return cls(tokens, crossings, asked["texts"], asked["min_chars"])

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return self.quotable.num_bytes + self.first.nbytes

    def matcher(self) -> VerbatimMatcher:
        """Stand before the first token of an answer."""
        return VerbatimMatcher(self)


class VerbatimMatcher:
    """Where one answer stands in its texts. For one thread."""

    def __init__(self, verbatim: Verbatim) -> None:
        """Stand before the first token."""
        self._verbatim = verbatim
        self._places = NEW_QUOTE
        self._mask: Bool[np.ndarray, " vocab"] | None = None
        self._is_first = True

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole and nothing may follow."""
        tokens, mask = self._verbatim.tokens, self._next
        return self._may_end and not mask[tokens.ids].any()

    def allowed(self, vocab_size: int) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next; end tokens are among them exactly where the answer may end.

        Raises:
            InputError: finding them takes too much.
        """
        assert vocab_size <= self._verbatim.tokens.size
        return torch.from_numpy(self._next[:vocab_size].copy())

    def accept(self, token_id: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            InputError: it was not.
        """
        tokens = self._verbatim.tokens
        text = tokens.first_bytes_of(token_id) if self._is_first else tokens.bytes_of(token_id)
        self._places = self._verbatim.quotable.read(self._places, text)
        self._mask, self._is_first = None, False
        if self._places.is_lost:
            raise InputError(
                f"the constraint can't be followed any further: behind token {token_id} nothing is quoted. "
                "Leave out what has it chosen."
            )

    @property
    def _may_end(self) -> bool:
        return self._verbatim.quotable.may_end(self._places)

    @property
    def _next(self) -> Bool[np.ndarray, " vocab"]:
        if self._mask is None:
            quotable = self._verbatim.quotable
            start = time.thread_time()
            allowed = self._verbatim.first if self._is_first else quotable.allowed(self._places)
            seconds = time.thread_time() - start
            if seconds > MAX_MASK_SECONDS:
                raise InputError(
                    f"the texts took {seconds:.2f} s for one token; the limit is {MAX_MASK_SECONDS:g} s. "
                    "Send fewer that repeat themselves."
                )
            self._mask = self._verbatim.tokens.mask(allowed, may_end=self._may_end)
        return self._mask
