"""Describe a mixer of constant state as a value. Knows nothing of tokens, tensors or algorithms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class Favor:
    """Estimate softmax attention by positive random features (FAVOR+; Performer, arXiv 2009.14794).

    With `is_causal` a token reads the keys up to its own, otherwise all keys of the call and of the state.
    `scale` of `None` is `1 / sqrt(head_dim)`.
    """

    num_features: int
    is_causal: bool = True
    scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse what estimates nothing."""
        if self.num_features < 1 or (self.scale is not None and not self.scale > 0):
            raise AttentionError(f"num_features must be at least 1 and scale above 0; got {self}")


@dataclass(frozen=True)
class Lightning:
    """Add with one constant decay a head, weaker in later layers (MiniMax-01, arXiv 2501.08313)."""

    layer: int = 0
    num_layers: int = 1

    def __post_init__(self) -> None:
        """Refuse a layer outside the model."""
        if not 0 <= self.layer < self.num_layers:
            raise AttentionError(f"layer must be in 0..num_layers - 1; got {self}")

    def slopes(self, num_heads: int) -> list[float]:
        """Return what each head subtracts from the logarithm of its state at a token."""
        first = 2.0 ** (-8.0 / num_heads)
        part = 1.0 - self.layer / (self.num_layers - 1 + 1e-5) + 1e-5
        return [first ** (head + 1) * part for head in range(num_heads)]


@dataclass(frozen=True)
class StateSpace:
    """Add with a decay and a step size chosen by the token (Mamba-2's SSD, arXiv 2405.21060).

    `q` is C, `k` is B, `v` is x, `write` is the step size dt, `log_decay` is A dt.
    """


@dataclass(frozen=True)
class GatedDelta:
    """Replace what a key recalls, after one decay a head (gated delta rule, arXiv 2412.06464).

    Queries and keys are normalised to length 1 here, then queries are divided by `sqrt(head_dim)`.
    `eps` is added to the squared length, as Qwen3-Next does.
    """

    eps: float = 1e-6


@dataclass(frozen=True)
class KimiDelta:
    """The gated delta rule with one decay a channel of the keys (Kimi Delta Attention, arXiv 2510.26692)."""

    eps: float = 1e-6


@dataclass(frozen=True)
class RealGated:
    """Average each channel with gates (RG-LRU; Griffin, arXiv 2402.19427, equations 3 to 6).

    A channel is a head of width 1. `write` is the input gate; `log_decay` is the logarithm of the decay a,
    and the input enters by `sqrt(1 - a^2)`. The first token of a sequence enters whole, as RecurrentGemma
    has it.
    """


Kind = Favor | Lightning | StateSpace | GatedDelta | KimiDelta | RealGated


@dataclass(frozen=True)
class MixerSpec:
    """One layer's mixer: the kind, the heads of its state, their widths, and how many tokens a chunk holds.

    `chunk_size` changes speed and memory, and nothing else but rounding.
    """

    kind: Kind
    num_heads: int
    head_dim: int
    v_head_dim: int
    chunk_size: int = 64

    def __post_init__(self) -> None:
        """Refuse empty shapes, and channels that are not of width 1."""
        if min(self.num_heads, self.head_dim, self.v_head_dim, self.chunk_size) < 1:
            raise AttentionError(f"every count, width and chunk_size must be at least 1; got {self}")
        if isinstance(self.kind, RealGated) and (self.head_dim, self.v_head_dim) != (1, 1):
            raise AttentionError(f"RealGated has heads of width 1, one a channel; got {self}")

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Heads, rows and columns of one sequence's state; FAVOR+ keeps the denominator as a last column."""
        if isinstance(self.kind, Favor):
            return self.num_heads, self.kind.num_features, self.v_head_dim + 1
        return self.num_heads, self.head_dim, self.v_head_dim

    def favor_scale(self, kind: Favor) -> float:
        """Return the factor that multiplies `q.k` in the softmax that is estimated."""
        return 1.0 / math.sqrt(self.head_dim) if kind.scale is None else kind.scale
