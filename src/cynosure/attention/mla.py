"""Read one latent row a token as keys and values of all heads. Knows nothing of projections or caches.

Multi-head latent attention, DeepSeek-V2 (arXiv 2405.04434, section 2.1). A cached row is
`[latent | rotated key]`: a compressed token, and one rotary key that all heads share. There are two exact
readings of it:

- **expanded**: every head gets a key `[w_k latent | rotated key]` and a value `w_v latent` (MHA; right for
  prefill, where each key meets many queries);
- **absorbed**: `q . (w_k c) = (w_k^T q) . c`, so queries move to the latent's space, the rows themselves are
  the keys of a single K/V head, their first channels the values, and `w_v` is applied once to what was
  attended to (MQA; right for decode: nothing is expanded).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.plan import KeyPlan
from cynosure.attention.sources import DenseSource, Source
from cynosure.attention.spec import Heads
from cynosure.core.errors import AttentionError


class MlaReading(Enum):
    """How latent rows are read; the results are equal within rounding."""

    EXPANDED = "expanded"
    ABSORBED = "absorbed"


@dataclass(frozen=True)
class MlaWidths:
    """The widths of one layer: `nope_dim` channels of a head carry no position, `rope_dim` are rotated."""

    num_heads: int
    nope_dim: int
    rope_dim: int
    v_head_dim: int
    latent_dim: int

    def __post_init__(self) -> None:
        """Check that nothing is empty."""
        if min(self.num_heads, self.nope_dim, self.rope_dim, self.v_head_dim, self.latent_dim) < 1:
            raise AttentionError(f"every width of latent attention must be at least 1; got {self}")

    @property
    def head_dim(self) -> int:
        """Channels of an expanded head; `1 / sqrt` of it scales the scores under both readings."""
        return self.nope_dim + self.rope_dim

    @property
    def row_dim(self) -> int:
        """Channels of a cached row."""
        return self.latent_dim + self.rope_dim

    def heads(self, reading: MlaReading) -> Heads:
        """Return the heads that `attend` sees under `reading`."""
        if reading is MlaReading.EXPANDED:
            return Heads(self.num_heads, self.num_heads, self.head_dim, self.v_head_dim)
        return Heads(self.num_heads, 1, self.row_dim, self.latent_dim)


def expand(
    rows: Float[Tensor, "n row"], w_k: Float[Tensor, "h nope latent"], w_v: Float[Tensor, "h dv latent"]
) -> tuple[Float[Tensor, "n h head_dim"], Float[Tensor, "n h dv"]]:
    """Return the keys and values of every head (equations 10 to 12 of the paper)."""
    latent, rotated = rows[:, : w_k.shape[2]], rows[:, w_k.shape[2] :]
    shared = rotated[:, None].expand(-1, w_k.shape[0], -1)
    return torch.cat([_up(latent, w_k), shared], -1), _up(latent, w_v)


def absorb(
    q_nope: Float[Tensor, "n h nope"], q_rope: Float[Tensor, "n h rope"], w_k: Float[Tensor, "h nope latent"]
) -> Float[Tensor, "n h row"]:
    """Return queries whose products with cached rows are those of the expanded heads."""
    moved = torch.bmm(q_nope.transpose(0, 1), w_k).transpose(0, 1)
    return torch.cat([moved, q_rope], -1)


def project(out: Float[Tensor, "n h latent"], w_v: Float[Tensor, "h dv latent"]) -> Float[Tensor, "n h dv"]:
    """Return what absorbed heads attended to, as values."""
    return torch.bmm(out.transpose(0, 1), w_v.transpose(1, 2)).transpose(0, 1)


def absorbed_source(rows: Float[Tensor, "n 1 row"], latent_dim: int) -> DenseSource:
    """Return cached rows as one K/V head whose values are the first channels of its keys: no copy."""
    return DenseSource(rows, rows[..., :latent_dim])


@dataclass(frozen=True, eq=False)
class ExpandedSource(Source):
    """Cached rows that become keys and values of all heads when they are read, a tile at a time.

    `rows` is any source of one K/V head whose keys are the rows; its values are not looked at.
    """

    rows: Source
    w_k: Float[Tensor, "h nope latent"]
    w_v: Float[Tensor, "h dv latent"]

    def __post_init__(self) -> None:
        """Check that rows and weights match."""
        num_kv_heads, row_dim, _ = self.rows.shape
        latent_dim = self.w_k.shape[2]
        if num_kv_heads != 1 or row_dim <= latent_dim:
            raise AttentionError(
                f"latent rows come as 1 head, wider than the latent's {latent_dim} channels; got "
                f"{num_kv_heads} of {row_dim}. Give the rows as they are cached"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(num_kv_heads, head_dim, v_head_dim)` after expansion."""
        num_heads, nope_dim, latent_dim = self.w_k.shape
        return num_heads, nope_dim + self.rows.shape[1] - latent_dim, self.w_v.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of keys and values."""
        return self.rows.dtype

    @property
    def size(self) -> int:
        """How many rows or pages there are."""
        return self.rows.size

    def check(self, keys: KeyPlan) -> None:
        """Raise `AttentionError` where `keys` reaches outside of the rows."""
        self.rows.check(keys)

    def read(
        self, keys: KeyPlan, seq: int, start: int, stop: int
    ) -> tuple[Float[Tensor, "h n d"], Float[Tensor, "h n dv"]]:
        """Expand rows `start:stop` of sequence `seq`."""
        rows, _ = self.rows.read(keys, seq, start, stop)
        k, v = expand(rows[0], self.w_k, self.w_v)
        return k.transpose(0, 1), v.transpose(0, 1)


def _up(latent: Float[Tensor, "n latent"], weight: Float[Tensor, "h d latent"]) -> Float[Tensor, "n h d"]:
    return torch.matmul(latent, weight.transpose(1, 2)).transpose(0, 1)
