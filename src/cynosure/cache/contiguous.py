"""Keep each sequence's keys and values in rows that were reserved for it. Knows nothing of pages.

The plain cache: what a paged one must equal. Sequence `i` of every layer owns the rows
`i * max_len : (i + 1) * max_len`, of which the first `lengths[i]` are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache.state_store import StateShape, StateStore
from cynosure.core.errors import InputTooLong


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps of a token.

    No query looks farther back than `window` tokens, itself included; `None` where it looks at all.
    """

    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int | None = None


class ContiguousCache:
    """Keys and values of `num_seqs` sequences of at most `max_len` tokens; states of layers that have one.

    Sequence `i` has slot `i` of `states`.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        num_seqs: int,
        max_len: int,
        dtype: torch.dtype,
        states: Sequence[StateShape | None] = (),
    ) -> None:
        """Reserve all rows at once; nothing grows later."""
        rows = num_seqs * max_len
        self.max_len = max_len
        self.lengths = [0] * num_seqs
        self._k = [torch.empty(rows, shape.num_kv_heads, shape.head_dim, dtype=dtype) for shape in layers]
        self._v = [torch.empty(rows, shape.num_kv_heads, shape.v_head_dim, dtype=dtype) for shape in layers]
        self.states = StateStore(states, num_seqs, dtype) if any(states) else None

    @property
    def starts(self) -> list[int]:
        """Row at which each sequence begins."""
        return [seq * self.max_len for seq in range(len(self.lengths))]

    def check_room(self, new_lens: Sequence[int]) -> None:
        """Raise where the new tokens do not fit.

        Raises:
            InputTooLong: a sequence would pass `max_len`.
        """
        for seq, (length, new) in enumerate(zip(self.lengths, new_lens, strict=True)):
            if length + new > self.max_len:
                raise InputTooLong(
                    f"sequence {seq} would hold {length + new} tokens; the limit is {self.max_len}. "
                    "Shorten it, or raise max_len."
                )

    def write(
        self, layer: int, k: Float[Tensor, "n h d"], v: Float[Tensor, "n h dv"], new_lens: Sequence[int]
    ) -> None:
        """Put each sequence's new tokens behind those that it holds; `advance` makes them count."""
        first = 0
        for seq, new in enumerate(new_lens):
            row = seq * self.max_len + self.lengths[seq]
            self._k[layer][row : row + new] = k[first : first + new]
            self._v[layer][row : row + new] = v[first : first + new]
            first += new

    def rows(self, layer: int) -> tuple[Float[Tensor, "rows h d"], Float[Tensor, "rows h dv"]]:
        """Return all rows of a layer; which are filled is told by `starts` and `lengths`."""
        return self._k[layer], self._v[layer]

    def advance(self, new_lens: Sequence[int]) -> None:
        """Count the tokens that every layer has written."""
        if self.states is not None:
            self.states.commit()
        self.lengths = [length + new for length, new in zip(self.lengths, new_lens, strict=True)]

    def crop(self, lengths: Sequence[int]) -> None:
        """Forget all tokens of each sequence from `lengths` on, as if they had never been written."""
        assert all(0 <= new <= old for new, old in zip(lengths, self.lengths, strict=True))
        assert self.states is None, "a state can't be cut back to an earlier token"
        self.lengths = list(lengths)

    def keep(self, seqs: Sequence[int]) -> None:
        """Go on with these sequences alone, in this order; the others' rows are given up."""
        rows = torch.tensor(list(seqs), dtype=torch.int64)
        for tensors in (self._k, self._v):
            tensors[:] = [
                tensor.unflatten(0, (len(self.lengths), self.max_len))[rows].flatten(0, 1)
                for tensor in tensors
            ]
        if self.states is not None:
            self.states.keep(seqs)
        self.lengths = [self.lengths[seq] for seq in seqs]
