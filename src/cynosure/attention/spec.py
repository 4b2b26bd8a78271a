"""Describe one attention layer's algebra as a value. Knows nothing of tokens, tensors or backends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from cynosure.attention.masks import Causal, Mask
from cynosure.attention.positions import NoPosition, Position
from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class Heads:
    """How many heads, and how wide.

    `num_kv_heads == num_heads` is MHA, 1 is MQA, anything between that divides it is GQA. Absorbed MLA is
    one K/V head whose keys are wider than its values (`v_head_dim`).
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int

    def __post_init__(self) -> None:
        """Check that the query heads divide evenly over the K/V heads."""
        if min(self.num_heads, self.num_kv_heads, self.head_dim, self.v_head_dim) < 1:
            raise AttentionError(f"every count of heads and widths must be at least 1; got {self}")
        if self.num_heads % self.num_kv_heads:
            raise AttentionError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                "choose a divisor"
            )

    @classmethod
    def of(
        cls, num_heads: int, head_dim: int, num_kv_heads: int | None = None, v_head_dim: int | None = None
    ) -> Heads:
        """Return heads where K/V heads and value width default to those of the queries."""
        return cls(num_heads, num_kv_heads or num_heads, head_dim, v_head_dim or head_dim)

    @property
    def group_size(self) -> int:
        """Query heads that share one K/V head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True)
class LogN:
    """Scale queries by `max(1, log(position + 1) / log(train_length))`, so that entropy stays put as N grows.

    Source: Su Jianlin, "Entropy-invariant attention"; Chiang & Cholak 2022 (arXiv 2202.12172).
    """

    train_length: int

    def __post_init__(self) -> None:
        """Refuse lengths whose logarithm can't divide."""
        if self.train_length < 2:
            raise AttentionError(f"train_length must be at least 2; got {self.train_length}")


@dataclass(frozen=True)
class Score:
    """How a query and a key become a logit: `softcap(scale * q.k) + bias`.

    `scale` of `None` is `1 / sqrt(head_dim)`. `softcap` bounds scores to `(-cap, cap)` before any bias.
    """

    scale: float | None = None
    softcap: float | None = None
    log_n: LogN | None = None

    def __post_init__(self) -> None:
        """Refuse caps that cap nothing."""
        if self.softcap is not None and not self.softcap > 0:
            raise AttentionError(f"softcap must be above 0; got {self.softcap}. Use None for no cap")

    def scale_for(self, head_dim: int) -> float:
        """Return the factor that multiplies `q.k`."""
        return 1.0 / math.sqrt(head_dim) if self.scale is None else self.scale


class Sink(Enum):
    """What else takes part in the softmax's denominator.

    `LEARNED` is one logit a head without a value (GPT-OSS; `AttentionWeights.sinks`); `ZERO` is a logit of 0
    ("softmax off by one"). StreamingLLM's sinks are real tokens: `Window(w) | Global(n)` in the mask.
    """

    NONE = "none"
    ZERO = "zero"
    LEARNED = "learned"


@dataclass(frozen=True)
class TopK:
    """Attend only to the keys of the `num_pages` best pages of `page_size` keys for each query head.

    With `page_size` 1 the scorer is the exact score. Larger pages are ranked by the upper bound of their
    scores from per-channel minima and maxima of the keys (Quest, arXiv 2406.10774, equation 1).
    """

    num_pages: int
    page_size: int = 1

    def __post_init__(self) -> None:
        """Refuse a selection that selects nothing."""
        if self.num_pages < 1 or self.page_size < 1:
            raise AttentionError(f"num_pages and page_size must be at least 1; got {self}")


@dataclass(frozen=True)
class Gate:
    """Multiply the output by the sigmoid of a logit: one a head, or one a channel (arXiv 2505.06708)."""

    is_per_channel: bool = False


@dataclass(frozen=True)
class Differential:
    """Subtract the second half of the heads, times lambda, from the first (arXiv 2410.05258, equation 1).

    Query heads `i` and `i + num_heads / 2` are a pair; both see the same values.
    """


@dataclass(frozen=True)
class AttentionSpec:
    """One attention layer, as a value: hashable, comparable, printable.

    `combination` says what `combine` does with a finished state; states before it merge.
    """

    heads: Heads
    mask: Mask = field(default_factory=Causal)
    position: Position = field(default_factory=NoPosition)
    score: Score = Score()
    sink: Sink = Sink.NONE
    selection: TopK | None = None
    combination: Gate | Differential | None = None

    def __post_init__(self) -> None:
        """Refuse pairs of heads that do not pair up."""
        if isinstance(self.combination, Differential) and self.heads.num_heads % 2:
            raise AttentionError(
                f"differential attention pairs heads; got an odd number, {self.heads.num_heads}"
            )
