"""Say what search needs from a model. Knows nothing of any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is to do."""


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors."""

    @property
    def model_id(self) -> str:
        """A name that changes whenever the vectors would: weights, pooling or dtype."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens one text may have, special tokens included."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, special tokens included."""
        ...

    def embed(self, texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        """L2-normalised vectors, one a text and in that order."""
        ...


class AttendedSpan(NamedTuple):
    """Code points `start:end` of a text, with the share of attention that they got."""

    start: int
    end: int
    weight: float


@runtime_checkable
class Ranker(Protocol):
    """Reads a question together with a text, and judges the pair."""

    @property
    def model_id(self) -> str:
        """A name that changes whenever the logits would."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens a pair may have, special tokens included."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What each logit of a pair says: `relevant`, `answers` and `no_answer`, in any order."""
        ...

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        """Logits of each pair, in the order of the texts; raises where a pair can't be read as a whole."""
        ...


@runtime_checkable
class Evidence(Protocol):
    """What an embedder attended to in a text."""

    def attended(self, text: str) -> Sequence[AttendedSpan]:
        """Spans into `text` in order, by token; weights are shares of one."""
        ...
