"""Keep keys and values in pages of a fixed size. Knows nothing of sequences, or of who holds a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int8, Num
from torch import Tensor

from cynosure.cache.contiguous import LayerShape
from cynosure.cache.native_write import Pages, why_not_native, write_native
from cynosure.cache.state_store import StateStore
from cynosure.cache.window_pages import WindowPages
from cynosure.core.errors import InputTooLong, UnknownOption
from cynosure.kernels.memory import prefer_huge_pages

BLOCK_SIZE = 32

#: In this dtype a cache keeps codes: each head's key and value of a token has a scale of its own.
CODES = torch.int8
SCALES = torch.float32
LARGEST_CODE = 127


def cache_dtype(name: str, computed_in: torch.dtype) -> torch.dtype:
    """Return what pages are kept in: `auto` is the model's own dtype.

    Raises:
        UnknownOption: no such name.
    """
    dtypes = {"auto": computed_in, "bfloat16": torch.bfloat16, "float32": torch.float32, "int8": CODES}
    if name not in dtypes:
        raise UnknownOption(f"a cache can't be kept in {name!r}; choose one of {', '.join(dtypes)}.")
    return dtypes[name]


def bytes_per_block(layers: Sequence[LayerShape], dtype: torch.dtype, block_size: int = BLOCK_SIZE) -> int:
    """Return what one page takes in all layers together, scales included."""
    numbers = sum(shape.num_kv_heads * (shape.head_dim + shape.v_head_dim) for shape in layers)
    scales = sum(2 * shape.num_kv_heads for shape in layers) if dtype == CODES else 0
    return (numbers * dtype.itemsize + scales * SCALES.itemsize) * block_size


def blocks_for(
    memory_bytes: int, layers: Sequence[LayerShape], dtype: torch.dtype, block_size: int = BLOCK_SIZE
) -> int:
    """Return how many pages fit into `memory_bytes`."""
    return memory_bytes // bytes_per_block(layers, dtype, block_size)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the layers of one group find a pass's sequences, and where its new tokens go."""

    block_table: Int[Tensor, "num_seqs max_blocks"]
    slots: Int[Tensor, " n"]


class PagedCache:
    """`num_blocks` pages of `block_size` tokens, `[num_blocks, num_kv_heads, block_size, head_dim]` a layer.

    Page `b` holds the same tokens in every layer. Nothing is cleared: a page keeps what was written until it
    is overwritten, and what a sequence's length does not cover must not be read.

    Layers form groups. Those of group 0 have a page for every block. Where `windows` names the window of a
    layer, it belongs to the group of that window, 1 and up, with as many pages as that has and one more that
    stays zero: blocks without a page are there, so that whatever reads behind a window reads numbers.

    In int8 a page holds codes, and beside them `[num_blocks, num_kv_heads, block_size]` float32 scales: a key
    or value is `code * scale`, with its largest channel at 127. A token's codes depend on that token alone.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        num_blocks: int,
        dtype: torch.dtype,
        block_size: int = BLOCK_SIZE,
        windows: Sequence[WindowPages] = (),
        states: StateStore | None = None,
    ) -> None:
        """Reserve all pages at once; nothing grows later. `states` are those of layers that have one."""
        assert num_blocks > 0
        assert block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.dtype = dtype
        self.windows = tuple(windows)
        self.states = states
        sizes = [window.window for window in windows]
        self._groups = [1 + sizes.index(shape.window) if shape.window in sizes else 0 for shape in layers]
        counts = [num_blocks, *(window.num_pages + 1 for window in windows)]
        rows = [(counts[group], shape) for group, shape in zip(self._groups, layers, strict=True)]
        self._k = [_pages(count, one.num_kv_heads, block_size, one.head_dim, dtype) for count, one in rows]
        self._v = [_pages(count, one.num_kv_heads, block_size, one.v_head_dim, dtype) for count, one in rows]
        scaled = rows if dtype == CODES else []
        self._k_scales = [
            torch.empty(count, one.num_kv_heads, block_size, dtype=SCALES) for count, one in scaled
        ]
        self._v_scales = [torch.empty_like(scales) for scales in self._k_scales]
        for group, window in enumerate(self.windows, start=1):
            for pages in self._parts(group):
                pages[window.nowhere] = 0

    def group_of(self, layer: int) -> int:
        """Return which of `places` holds for a layer."""
        return self._groups[layer]

    def places(
        self,
        block_table: Int[Tensor, "num_seqs max_blocks"],
        past_lens: Sequence[int],
        new_lens: Sequence[int],
    ) -> tuple[Places, ...]:
        """Return for each group where its layers find and put the tokens of a pass; see `slots`."""
        places = [Places(block_table, self.slots(block_table, past_lens, new_lens))]
        for window in self.windows:
            table = window.page_of[block_table.numpy()]
            _check_held(window, table, past_lens, new_lens)
            slots = _slots(table, past_lens, new_lens, self.block_size, window.num_pages)
            places.append(Places(torch.from_numpy(table), slots))
        return tuple(places)

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
        return _slots(block_table.numpy(), past_lens, new_lens, self.block_size, self.num_blocks)

    def write(
        self, layer: int, k: Float[Tensor, "n h d"], v: Float[Tensor, "n h dv"], slots: Int[Tensor, " n"]
    ) -> None:
        """Put each token's keys and values at its slot, in the dtype of the cache."""
        pages = Pages(*self.pages(layer), *(self.scales(layer) or (None, None)))
        if not why_not_native(k, v, pages):
            write_native(k, v, slots, pages)
            return
        blocks, offsets = slots // self.block_size, slots % self.block_size
        if self.dtype == CODES:
            k, self._k_scales[layer][blocks, :, offsets] = encode(k)
            v, self._v_scales[layer][blocks, :, offsets] = encode(v)
        self._k[layer][blocks, :, offsets] = k.to(self.dtype)
        self._v[layer][blocks, :, offsets] = v.to(self.dtype)

    def pages(
        self, layer: int
    ) -> tuple[Num[Tensor, "num_blocks h block_size d"], Num[Tensor, "num_blocks h block_size dv"]]:
        """Return all pages of a layer: numbers, or codes."""
        return self._k[layer], self._v[layer]

    def scales(
        self, layer: int
    ) -> tuple[Float[Tensor, "num_blocks h block_size"], Float[Tensor, "num_blocks h block_size"]] | None:
        """Return the scales of a layer's codes; `None` where pages hold numbers."""
        return (self._k_scales[layer], self._v_scales[layer]) if self._k_scales else None

    def copy_block(self, source: int, destination: int) -> None:
        """Copy a page in every layer that has one for every block; those of windows are never shared so."""
        for pages in self._parts(0):
            pages[destination] = pages[source]

    def page_bytes(self, group: int = 0) -> int:
        """What one page takes in all layers of a group together."""
        return sum(pages[0].nbytes for pages in self._parts(group))

    @property
    def num_bytes(self) -> int:
        """What all pages take, in all layers, and all states."""
        states = 0 if self.states is None else self.states.num_bytes
        groups = range(1 + len(self.windows))
        return states + sum(pages.nbytes for group in groups for pages in self._parts(group))

    def read_page(self, page: int, group: int = 0) -> bytes:
        """Return what a page holds in all layers of a group, as it lies in memory."""
        parts = self._parts(group)
        return b"".join(pages[page].flatten().view(torch.uint8).numpy().tobytes() for pages in parts)

    def write_page(self, page: int, content: bytes, group: int = 0) -> None:
        """Have a page hold what `read_page` gave, of this cache or of one just like it."""
        assert len(content) == self.page_bytes(group), "the page is of another cache"
        start = 0
        for pages in self._parts(group):
            part = pages[page].flatten().view(torch.uint8)
            part.numpy()[:] = np.frombuffer(content, np.uint8, part.numel(), start)
            start += part.numel()

    def _parts(self, group: int) -> list[Tensor]:
        tensors = (self._k, self._v, self._k_scales, self._v_scales)
        return [
            pages for part in tensors for of, pages in zip(self._groups, part, strict=False) if of == group
        ]


def encode(x: Float[Tensor, "n h d"]) -> tuple[Int8[Tensor, "n h d"], Float[Tensor, "n h"]]:
    """Return codes and scales of keys or values; NaN and infinity give a scale that is neither."""
    wide = x.float()
    scale = wide.abs().amax(-1) / LARGEST_CODE if x.shape[-1] else wide.new_zeros(x.shape[:-1])
    inverse = scale.reciprocal()
    inverse = inverse.where(inverse.isfinite(), torch.zeros_like(inverse))
    codes = (wide * inverse[..., None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
    return codes.nan_to_num_(0.0).to(CODES), scale


def _pages(
    num_blocks: int, num_heads: int, block_size: int, width: int, dtype: torch.dtype
) -> Num[Tensor, "num_blocks h block_size d"]:
    pages = torch.empty(num_blocks, num_heads, block_size, width, dtype=dtype)
    # A sequence's pages lie anywhere: each would cost a walk through the system's tables of small pages.
    prefer_huge_pages(pages.data_ptr(), pages.nbytes)
    return pages


def _slots(
    table: Int[np.ndarray, "num_seqs max_blocks"],
    past_lens: Sequence[int],
    new_lens: Sequence[int],
    block_size: int,
    num_pages: int,
) -> Int[Tensor, " n"]:
    # In numpy: on arrays this small an operation of torch costs several times as much.
    past, new = np.asarray(past_lens), np.asarray(new_lens)
    rooms = (table >= 0).sum(1) * block_size
    for seq in np.flatnonzero(past + new > rooms):
        raise InputTooLong(
            f"sequence {seq} would hold {past[seq] + new[seq]} tokens; its pages hold {rooms[seq]}. "
            "Reserve more pages."
        )
    seqs = np.repeat(np.arange(len(new)), new)
    places = np.arange(len(seqs)) + (past - np.cumsum(new) + new)[seqs]
    blocks = table[seqs, places // block_size]
    assert int(blocks.max()) < num_pages, f"a page is outside of 0..{num_pages - 1}"
    slots = blocks * block_size + places % block_size
    assert len(np.unique(slots)) == len(slots), "two tokens would be written to one place"
    return torch.from_numpy(slots)


def _check_held(
    window: WindowPages,
    table: Int[np.ndarray, "num_seqs max_blocks"],
    past_lens: Sequence[int],
    new_lens: Sequence[int],
) -> None:
    """Assert that all that a pass looks at has a page: what has none reads as zeros."""
    past, new = np.asarray(past_lens), np.asarray(new_lens)
    first = np.maximum(0, past - window.window + 1) // window.block_size
    stop = -(-(past + new) // window.block_size)
    columns = np.arange(table.shape[1])
    is_seen = (columns >= first[:, None]) & (columns < stop[:, None])
    assert (table[is_seen] != window.nowhere).all(), "a block inside a window has no page"
