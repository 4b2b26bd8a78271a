"""Say what must be asked of a model to learn which of its heads tell what. Knows nothing of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

#: Tokens `start <= token < end` of a sequence that nothing may attend to.
DeniedRun = tuple[int, int]
#: A layer, and a query head in it.
Head = tuple[int, int]


@runtime_checkable
class ProbedModel(Protocol):
    """A decoder that tells of every head, one sequence at a time, as slowly as it may."""

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Query heads of each layer; 0 where a layer has none."""
        ...

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Layers that see a whole sequence."""
        ...

    def shares(
        self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
    ) -> Float32[np.ndarray, "rows heads segments"]:
        """The share of each segment that each head gave from each row, heads in order of layers.

        Args:
            token_ids: One sequence.
            rows: Tokens whose queries are looked at; a token's query chooses the token behind it.
            segments: The segment of each token, dense integers from 0. What goes to learned sinks is in none.
        """
        ...

    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[DeniedRun] = (),
    ) -> Float32[np.ndarray, " tokens"]:
        """How likely each token from `first` on is after those before it, in nats.

        Args:
            token_ids: One sequence.
            first: From 1 on.
            without: Heads whose output is nothing.
            denied: Runs that no query attends to; neither token 0 nor one from `first` on.
        """
        ...
