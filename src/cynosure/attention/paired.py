"""Read the values of two heads as one, for heads whose difference is taken. Knows nothing of caches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.plan import KeyPlan
from cynosure.attention.sources import Source
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class PairedValues(Source):
    """Stored heads, of which the keys stay as they are and the values pair up when they are read.

    Head `h` of `n` has its own keys, and the values of heads `h % (n / 2)` and `h % (n / 2) + n / 2` side by
    side (arXiv 2410.05258): what is kept of a token is no more than without pairs.
    """

    stored: Source

    def __post_init__(self) -> None:
        """Check that heads pair up."""
        if self.stored.shape[0] % 2:
            raise AttentionError(f"values pair up by heads; got {self.stored.shape[0]}. Give an even number")

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(num_kv_heads, head_dim, v_head_dim)`, values twice as wide as stored."""
        num_heads, head_dim, v_head_dim = self.stored.shape
        return num_heads, head_dim, 2 * v_head_dim

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of keys and values."""
        return self.stored.dtype

    @property
    def size(self) -> int:
        """How many rows or pages there are."""
        return self.stored.size

    def check(self, keys: KeyPlan) -> None:
        """Raise `AttentionError` where `keys` reaches outside of what is stored."""
        self.stored.check(keys)

    def read(
        self, keys: KeyPlan, seq: int, start: int, stop: int
    ) -> tuple[Float[Tensor, "h n d"], Float[Tensor, "h n dv"]]:
        """Return keys as stored, and pairs of values."""
        k, v = self.stored.read(keys, seq, start, stop)
        return k, torch.cat(v.chunk(2), -1).repeat(2, 1, 1)
