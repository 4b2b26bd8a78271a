"""Turn the tokens of each sequence into one vector. Knows nothing of graphs or of what the vectors mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.encoder_spec import Pooling


@dataclass(frozen=True, eq=False)
class Rows:
    """Which sequence each packed row belongs to, and whether it counts."""

    sequence: Int[Tensor, " n"]
    counts: Bool[Tensor, " n"]
    num_seqs: int

    @classmethod
    def of(cls, batch: Batch) -> Rows:
        """The rows of a batch; padding does not count."""
        lengths = torch.tensor(batch.new_lens)
        sequence = torch.repeat_interleave(torch.arange(len(batch.new_lens)), lengths)
        is_pad = batch.plan.keys[0].is_pad
        counts = torch.ones_like(sequence, dtype=torch.bool) if is_pad is None else ~is_pad
        return cls(sequence, counts, len(batch.new_lens))

    @property
    def lengths(self) -> Int[Tensor, " num_seqs"]:
        """Rows that count, by sequence."""
        return torch.bincount(self.sequence[self.counts], minlength=self.num_seqs)

    @property
    def firsts(self) -> Int[Tensor, " num_seqs"]:
        """The first row that counts, by sequence."""
        return self.counts.nonzero().squeeze(1)[self.lengths.cumsum(0) - self.lengths]

    @property
    def lasts(self) -> Int[Tensor, " num_seqs"]:
        """The last row that counts, by sequence."""
        return self.counts.nonzero().squeeze(1)[self.lengths.cumsum(0) - 1]


def pool(kind: Pooling, hidden: Float[Tensor, "n hidden"], batch: Batch) -> Float[Tensor, "num_seqs hidden"]:
    """Return one vector a sequence, in the dtype of `hidden`; sums are float32 at least."""
    rows = Rows.of(batch)
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    return _POOLS[kind](wide, rows).to(hidden.dtype)


def _sums(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    kept, sequence = x[rows.counts], rows.sequence[rows.counts]
    return x.new_zeros(rows.num_seqs, x.shape[1]).index_add_(0, sequence, kept)


def _mean(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    return _sums(x, rows) / rows.lengths[:, None]


def _mean_sqrt_len(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    return _sums(x, rows) / rows.lengths[:, None].sqrt()


def _max(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    return torch.stack([part.amax(0) for part in x[rows.counts].split(rows.lengths.tolist())])


def _weighted_mean(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    place = torch.arange(x.shape[0]) - rows.firsts[rows.sequence] + 1
    weight = (place * rows.counts).to(x.dtype)
    return _sums(x * weight[:, None], rows) / _sums(weight[:, None], rows)


def _cls(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    return x[rows.firsts]


def _last_token(x: Float[Tensor, "n hidden"], rows: Rows) -> Float[Tensor, "num_seqs hidden"]:
    return x[rows.lasts]


_POOLS: dict[Pooling, Callable[[Tensor, Rows], Tensor]] = {
    Pooling.CLS: _cls,
    Pooling.MEAN: _mean,
    Pooling.MAX: _max,
    Pooling.MEAN_SQRT_LEN: _mean_sqrt_len,
    Pooling.WEIGHTED_MEAN: _weighted_mean,
    Pooling.LAST_TOKEN: _last_token,
}
