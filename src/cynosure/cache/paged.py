"""Keep keys and values in pages of a fixed size. Knows nothing of sequences, or of who holds a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.cache.contiguous import LayerShape
from cynosure.core.errors import InputTooLong

BLOCK_SIZE = 32


def bytes_per_block(layers: Sequence[LayerShape], dtype: torch.dtype, block_size: int = BLOCK_SIZE) -> int:
    """Return what one page takes in all layers together."""
    numbers = sum(shape.num_kv_heads * (shape.head_dim + shape.v_head_dim) for shape in layers)
    return numbers * block_size * dtype.itemsize


def blocks_for(
    memory_bytes: int, layers: Sequence[LayerShape], dtype: torch.dtype, block_size: int = BLOCK_SIZE
) -> int:
    """Return how many pages fit into `memory_bytes`."""
    return memory_bytes // bytes_per_block(layers, dtype, block_size)


class PagedCache:
    """`num_blocks` pages of `block_size` tokens, `[num_blocks, num_kv_heads, block_size, head_dim]` a layer.

    Page `b` holds the same tokens in every layer. Nothing is cleared: a page keeps what was written until it
    is overwritten, and what a sequence's length does not cover must not be read. Layers with a window keep
    all pages too; a ring would take less memory and give the same.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        num_blocks: int,
        dtype: torch.dtype,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        """Reserve all pages at once; nothing grows later."""
        assert num_blocks > 0
        assert block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._k = [
            _pages(num_blocks, shape.num_kv_heads, block_size, shape.head_dim, dtype) for shape in layers
        ]
        self._v = [
            _pages(num_blocks, shape.num_kv_heads, block_size, shape.v_head_dim, dtype) for shape in layers
        ]

    def slots(
        self,
        block_table: Int[Tensor, "num_seqs max_blocks"],
        past_lens: Sequence[int],
        new_lens: Sequence[int],
    ) -> Int[Tensor, " n"]:
        """Return where the new tokens of each sequence go: `block * block_size + offset`, all different.

        Args:
            block_table: each sequence's pages in order; what is below 0 fills up shorter rows.
            past_lens: tokens of each sequence that its pages hold.
            new_lens: tokens of each sequence that are to be written.

        Raises:
            InputTooLong: a sequence's pages do not hold its new tokens.
        """
        rooms = ((block_table >= 0).sum(1) * self.block_size).tolist()
        for seq, (past, new, room) in enumerate(zip(past_lens, new_lens, rooms, strict=True)):
            if past + new > room:
                raise InputTooLong(
                    f"sequence {seq} would hold {past + new} tokens; its pages hold {room}. "
                    "Reserve more pages."
                )
        seqs = torch.repeat_interleave(torch.tensor(list(new_lens), dtype=torch.int64))
        places = torch.cat(
            [torch.arange(past, past + new) for past, new in zip(past_lens, new_lens, strict=True)]
        )
        blocks = block_table[seqs, places // self.block_size]
        assert int(blocks.max()) < self.num_blocks, f"a page is outside of 0..{self.num_blocks - 1}"
        slots = blocks * self.block_size + places % self.block_size
        assert slots.unique().numel() == slots.numel(), "two tokens would be written to one place"
        return slots

    def write(
        self, layer: int, k: Float[Tensor, "n h d"], v: Float[Tensor, "n h dv"], slots: Int[Tensor, " n"]
    ) -> None:
        """Put each token's keys and values at its slot."""
        blocks, offsets = slots // self.block_size, slots % self.block_size
        self._k[layer][blocks, :, offsets] = k
        self._v[layer][blocks, :, offsets] = v

    def pages(
        self, layer: int
    ) -> tuple[Float[Tensor, "num_blocks h block_size d"], Float[Tensor, "num_blocks h block_size dv"]]:
        """Return all pages of a layer."""
        return self._k[layer], self._v[layer]

    def copy_block(self, source: int, destination: int) -> None:
        """Copy a page in every layer."""
        for pages in (*self._k, *self._v):
            pages[destination] = pages[source]


def _pages(
    num_blocks: int, num_heads: int, block_size: int, width: int, dtype: torch.dtype
) -> Float[Tensor, "num_blocks h block_size d"]:
    return torch.empty(num_blocks, num_heads, block_size, width, dtype=dtype)
