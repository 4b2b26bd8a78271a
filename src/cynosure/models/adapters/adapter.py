"""Hold the low-rank pairs of one adapter. Knows nothing of files, or of who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import InputError

#: Of a digest, what tells two adapters of one name apart.
SHOWN_DIGITS = 24


@dataclass(frozen=True, eq=False)
class Pair:
    """What is added to one projection: `(x @ down.T) @ up.T`, in float32; the scale is in `up`."""

    down: Float[Tensor, "rank width"]
    up: Float[Tensor, "out rank"]


@dataclass(frozen=True, eq=False)
class Adapter:
    """Pairs by the graph's own names of projections (`layers.0.attention.q`).

    `digest` is that of the files: two adapters of one name are told apart by it.
    """

    name: str
    digest: str
    pairs: Mapping[str, Pair]

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            InputError: it is empty, or can't be printed.
        """
        if not self.name or not self.name.isprintable():
            raise InputError(f"an adapter is called {self.name[:60]!r}; a name has letters. Choose another.")

    @property
    def identity(self) -> str:
        """The name with the content behind it; no name holds what stands between them."""
        return f"{self.name}\0{self.digest[:SHOWN_DIGITS]}"

    @cached_property
    def num_bytes(self) -> int:
        """What the pairs take; projections that a checkpoint fuses share the half that reads."""
        tensors = [tensor for pair in self.pairs.values() for tensor in (pair.down, pair.up)]
        return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())

    @cached_property
    def rank(self) -> int:
        """The largest rank of a pair."""
        return max(len(pair.down) for pair in self.pairs.values())
