"""Hold the result of attending to a set of keys, merge two. Knows nothing of how it was computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.stats import Stats, entropy_bits, merge_stats
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class AttentionState:
    """What `n` queries got from a set of keys: the softmax-weighted values and the log of the denominator.

    `out` and `lse` are float32 (float64 for float64 inputs) whatever the inputs' dtype, so that merging
    adds no rounding of its own. A row that may see nothing has `out` 0 and `lse` `-inf`. `heads` are the
    watched heads that `stats` rows stand for.
    """

    out: Float[Tensor, "n h d"]
    lse: Float[Tensor, "n h"]
    stats: Stats | None = None
    heads: tuple[int, ...] | None = None

    @classmethod
    def identity(cls, n: int, h: int, d: int, like: Tensor) -> AttentionState:
        """Return the neutral element of `merge`: `(0, -inf)`."""
        dtype = accumulation_dtype(like.dtype)
        out = torch.zeros(n, h, d, dtype=dtype, device=like.device)
        return cls(out, torch.full((n, h), float("-inf"), dtype=dtype, device=like.device))

    @property
    def watched_lse(self) -> Float[Tensor, "n w"]:
        """`lse` of the watched heads."""
        return self.lse if self.heads is None else self.lse[:, list(self.heads)]

    @property
    def shares(self) -> Float[Tensor, "n w s"]:
        """Share of attention that each segment got, `exp(lse_s - lse)`; 0 for rows that see nothing."""
        return _share(self._observed("mass_lse"), self.watched_lse[..., None])

    @property
    def sink_share(self) -> Float[Tensor, "n w"]:
        """Share of attention that the sink got."""
        return _share(self._observed("sink_lse"), self.watched_lse)

    @property
    def entropy(self) -> Float[Tensor, "n w"]:
        """Entropy of each row's attention, in bits."""
        if self.stats is None:
            raise AttentionError("nothing was watched; pass watch=Watch(entropy=True) to attend")
        return entropy_bits(self.stats, self.watched_lse)

    def _observed(self, name: str) -> Tensor:
        value = None if self.stats is None else vars(self.stats)[name]
        if value is None:
            raise AttentionError(
                f"{name} was not watched; pass watch=Watch(mass=True) to attend, with segments planned"
            )
        return value


def merge(a: AttentionState, b: AttentionState) -> AttentionState:
    """Return the state of the union of two disjoint sets of keys.

    Associative and commutative within rounding; `AttentionState.identity` is neutral. With
    `lse = logaddexp(lse_a, lse_b)`, `out = exp(lse_a - lse) out_a + exp(lse_b - lse) out_b`
    (FlashAttention, arXiv 2205.14135, section 3.1).

    Raises:
        AttentionError: the states are of different queries or widths, or only one was watched.
    """
    if a.out.shape != b.out.shape or a.out.dtype != b.out.dtype or a.heads != b.heads:
        raise AttentionError(
            "states to merge must agree in shape, dtype and watched heads; got "
            f"{tuple(a.out.shape)} {a.out.dtype} {a.heads} and {tuple(b.out.shape)} {b.out.dtype} {b.heads}"
        )
    if (a.stats is None) != (b.stats is None):
        raise AttentionError("one state was watched and the other was not; watch both or neither")
    lse = torch.logaddexp(a.lse, b.lse)
    weight_a, weight_b = _share(a.lse, lse), _share(b.lse, lse)
    out = a.out * weight_a[..., None] + b.out * weight_b[..., None]
    merged = AttentionState(out, lse, heads=a.heads)
    if a.stats is None or b.stats is None:
        return merged
    if a.heads is not None:
        columns = list(a.heads)
        weight_a, weight_b = weight_a[:, columns], weight_b[:, columns]
    return replace(merged, stats=merge_stats(a.stats, b.stats, weight_a, weight_b))


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which scores, sums and states are kept for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _share(part: Tensor, whole: Tensor) -> Tensor:
    whole = torch.where(torch.isneginf(whole), torch.zeros_like(whole), whole)
    return torch.exp(part - whole)
