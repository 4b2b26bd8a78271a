"""Hold what a pass observed: shares, entropy, largest logits, top keys. Knows nothing of backends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class Watch:
    """What to observe. Asking adds outputs and changes none.

    `heads` limits everything that is observed to these query heads; `None` is all of them.
    """

    mass: bool = True
    entropy: bool = False
    max_logit: bool = False
    top_k: int = 0
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a negative count."""
        if self.top_k < 0:
            raise AttentionError(f"top_k must be at least 0; got {self.top_k}")

    @property
    def needs_scores(self) -> bool:
        """Whether more is asked than log-sum-exps of segments can tell."""
        return self.entropy or self.max_logit or self.top_k > 0


@dataclass(frozen=True, eq=False)
class Stats:
    """Mergeable observations of `n` queries and `w` watched heads, in nats until they are read.

    - `mass_lse`: log-sum-exp of the scores of each segment; `sink_lse`: the same of the sink.
    - `mean_score`: the scores' mean under the softmax; the entropy is `lse - mean_score`.
    - `top_keys`: indices that number the keys of all sources of a sequence in order; where `top_logits`
      is `-inf` there was no further key.
    """

    mass_lse: Float[Tensor, "n w s"] | None = None
    sink_lse: Float[Tensor, "n w"] | None = None
    mean_score: Float[Tensor, "n w"] | None = None
    max_logit: Float[Tensor, "n w"] | None = None
    top_logits: Float[Tensor, "n w t"] | None = None
    top_keys: Int[Tensor, "n w t"] | None = None


def merge_stats(a: Stats, b: Stats, weight_a: Float[Tensor, "n w"], weight_b: Float[Tensor, "n w"]) -> Stats:
    """Return the observations of the union, given each side's share of it."""
    top_logits = top_keys = None
    if a.top_logits is not None and b.top_logits is not None:
        assert a.top_keys is not None
        assert b.top_keys is not None
        top_logits, order = torch.cat([a.top_logits, b.top_logits], -1).sort(
            dim=-1, descending=True, stable=True
        )
        keys = torch.cat([a.top_keys, b.top_keys], -1).gather(-1, order)
        keep = max(a.top_logits.shape[-1], b.top_logits.shape[-1])
        top_logits, top_keys = top_logits[..., :keep], keys[..., :keep]
    mean = None
    if a.mean_score is not None and b.mean_score is not None:
        mean = a.mean_score * weight_a + b.mean_score * weight_b
    return Stats(
        mass_lse=_both(a.mass_lse, b.mass_lse, torch.logaddexp),
        sink_lse=_both(a.sink_lse, b.sink_lse, torch.logaddexp),
        mean_score=mean,
        max_logit=_both(a.max_logit, b.max_logit, torch.maximum),
        top_logits=top_logits,
        top_keys=top_keys,
    )


def entropy_bits(stats: Stats, lse: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
    """Return the entropy of each row's attention in bits; 0 for rows that attended to nothing."""
    if stats.mean_score is None:
        raise AttentionError("entropy was not watched; ask with Watch(entropy=True)")
    bits = (lse - stats.mean_score) / math.log(2.0)
    return torch.where(torch.isneginf(lse), torch.zeros_like(bits), bits)


def _both(a: Tensor | None, b: Tensor | None, join) -> Tensor | None:  # noqa: ANN001
    return None if a is None or b is None else join(a, b)
