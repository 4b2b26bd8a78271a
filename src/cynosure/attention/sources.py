"""Hand out keys and values of one source. Knows nothing of masks, scores or who owns the memory.

Keys come as they are scored: rotary positions are already applied (a rotation depends on the token alone,
so a cache keeps rotated keys; `Rotary.shift` moves them).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from cynosure.attention.plan import KeyPlan
from cynosure.attention.spec import TopK
from cynosure.core.errors import AttentionError


class Source(ABC):
    """Keys and values that queries attend to."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """`(num_kv_heads, head_dim, v_head_dim)`."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of keys and values."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many rows or pages there are."""

    @property
    def lies_well(self) -> bool:
        """Whether kernels can point to keys and values: they lie in memory, channels side by side."""
        return False

    @property
    def selection(self) -> TopK | None:
        """Which of its keys a query attends to, where the source itself says so."""
        return None

    @abstractmethod
    def check(self, keys: KeyPlan) -> None:
        """Raise `AttentionError` where `keys` reaches outside of this source."""

    @abstractmethod
    def read(
        self, keys: KeyPlan, seq: int, start: int, stop: int
    ) -> tuple[Float[Tensor, "h n d"], Float[Tensor, "h n dv"]]:
        """Return keys and values `start:stop` of sequence `seq`, heads first; views where memory allows."""


@dataclass(frozen=True, eq=False)
class DenseSource(Source):
    """Rows of keys and values; a sequence's rows are contiguous and begin at `keys.first_rows`.

    Cross-attention, memory tokens, a plain cache and a packed prompt are all dense sources.
    """

    k: Float[Tensor, "rows h d"]
    v: Float[Tensor, "rows h dv"]

    def __post_init__(self) -> None:
        """Check that keys and values match."""
        if self.k.shape[:2] != self.v.shape[:2] or self.k.dtype != self.v.dtype:
            raise AttentionError(
                f"k and v must agree in rows, heads and dtype; got {tuple(self.k.shape)} {self.k.dtype} and "
                f"{tuple(self.v.shape)} {self.v.dtype}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(num_kv_heads, head_dim, v_head_dim)`."""
        return self.k.shape[1], self.k.shape[2], self.v.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of keys and values."""
        return self.k.dtype

    @property
    def size(self) -> int:
        """How many rows there are."""
        return self.k.shape[0]

    @property
    def lies_well(self) -> bool:
        """Whether the channels of each key and value lie side by side."""
        return self.k.stride(-1) == 1 and self.v.stride(-1) == 1

    def check(self, keys: KeyPlan) -> None:
        """Raise where a sequence ends after the last row."""
        for seq, first in enumerate(keys.first_rows):
            stop = first + keys.offsets[seq + 1] - keys.offsets[seq]
            if first < 0 or stop > self.k.shape[0]:
                raise AttentionError(
                    f"sequence {seq} is planned at rows {first}:{stop}; the source has {self.k.shape[0]}"
                )

    def read(
        self, keys: KeyPlan, seq: int, start: int, stop: int
    ) -> tuple[Float[Tensor, "h n d"], Float[Tensor, "h n dv"]]:
        """Return views of the rows."""
        first = keys.first_rows[seq]
        rows = slice(first + start, first + stop)
        return self.k[rows].transpose(0, 1), self.v[rows].transpose(0, 1)


@dataclass(frozen=True, eq=False)
class PageScales:
    """What codes in pages are multiplied by, one number a token and K/V head."""

    k: Float[Tensor, "num_blocks h block_size"]
    v: Float[Tensor, "num_blocks h block_size"]


@dataclass(frozen=True, eq=False)
class PagedSource(Source):
    """Pages of a fixed `block_size`; `keys.block_table` says which pages a sequence owns, in order.

    - `scales`: where pages hold int8 codes; reading multiplies, a tile at a time.
    - `read_dtype`: what reading gives; `None` is the dtype of the pages.
    """

    k_pages: Num[Tensor, "num_blocks h block_size d"]
    v_pages: Num[Tensor, "num_blocks h block_size dv"]
    scales: PageScales | None = None
    read_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        """Check that keys and values match, and that codes have scales."""
        if self.k_pages.shape[:3] != self.v_pages.shape[:3] or self.k_pages.dtype != self.v_pages.dtype:
            raise AttentionError(
                "k_pages and v_pages must agree in pages, heads, block_size and dtype; got "
                f"{tuple(self.k_pages.shape)} {self.k_pages.dtype} and "
                f"{tuple(self.v_pages.shape)} {self.v_pages.dtype}"
            )
        if self.has_codes != (self.scales is not None) or not self.dtype.is_floating_point:
            raise AttentionError(
                f"pages of {self.k_pages.dtype} are read as {self.dtype} "
                f"{'without' if self.scales is None else 'with'} scales; pages of codes need scales and a "
                "floating read_dtype, and no others have scales"
            )
        shapes = [] if self.scales is None else [self.scales.k.shape, self.scales.v.shape]
        if any(shape != self.k_pages.shape[:3] for shape in shapes):
            raise AttentionError(
                f"scales must be {tuple(self.k_pages.shape[:3])}; got {[tuple(shape) for shape in shapes]}"
            )

    @property
    def has_codes(self) -> bool:
        """Whether pages hold codes, to be multiplied by `scales`."""
        return not self.k_pages.is_floating_point()

    @property
    def block_size(self) -> int:
        """Keys in a page."""
        return self.k_pages.shape[2]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(num_kv_heads, head_dim, v_head_dim)`."""
        return self.k_pages.shape[1], self.k_pages.shape[3], self.v_pages.shape[3]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of keys and values, as they are read."""
        return self.read_dtype or self.k_pages.dtype

    @property
    def size(self) -> int:
        """How many pages there are."""
        return self.k_pages.shape[0]

    @property
    def lies_well(self) -> bool:
        """Whether the channels of each key and value lie side by side, and scales without gaps."""
        scales = self.scales
        has_gaps = scales is not None and not (scales.k.is_contiguous() and scales.v.is_contiguous())
        return self.k_pages.stride(-1) == 1 and self.v_pages.stride(-1) == 1 and not has_gaps

    def check(self, keys: KeyPlan) -> None:
        """Raise where the table is missing, too short or names a page that does not exist."""
        if keys.block_table is None:
            raise AttentionError("a paged source needs a block_table in its KeyPlan; got None")
        table = keys.block_table
        for seq in range(len(keys.offsets) - 1):
            length = keys.offsets[seq + 1] - keys.offsets[seq]
            num_blocks = -(-length // self.block_size)
            if num_blocks > table.shape[1]:
                raise AttentionError(
                    f"sequence {seq} has {length} keys in pages of {self.block_size}; its block_table holds "
                    f"{table.shape[1]} pages"
                )
            used = table[seq, :num_blocks]
            if num_blocks and (int(used.min()) < 0 or int(used.max()) >= self.k_pages.shape[0]):
                raise AttentionError(
                    f"the block_table of sequence {seq} names a page outside of "
                    f"0..{self.k_pages.shape[0] - 1}"
                )

    def read(
        self, keys: KeyPlan, seq: int, start: int, stop: int
    ) -> tuple[Float[Tensor, "h n d"], Float[Tensor, "h n dv"]]:
        """Gather the pages that hold `start:stop`."""
        assert keys.block_table is not None
        first = start // self.block_size
        table = keys.block_table[seq, first : -(-stop // self.block_size)]
        part = slice(start - first * self.block_size, stop - first * self.block_size)
        k, v = _gathered(self.k_pages, table)[:, part], _gathered(self.v_pages, table)[:, part]
        if self.scales is None:
            return k.to(self.dtype), v.to(self.dtype)
        k_scales = _gathered(self.scales.k[..., None], table)[:, part]
        v_scales = _gathered(self.scales.v[..., None], table)[:, part]
        return (k * k_scales).to(self.dtype), (v * v_scales).to(self.dtype)


def _gathered(pages: Tensor, table: Tensor) -> Tensor:
    num_heads, block_size, width = pages.shape[1:]
    # Gathered along the first axis: along any other, the whole cache would be copied to be made contiguous.
    gathered = pages.index_select(0, table).transpose(0, 1)
    return gathered.reshape(num_heads, table.numel() * block_size, width)
