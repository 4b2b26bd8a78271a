"""Stretch rotary frequencies beyond the trained length. Knows nothing of tensors that rotate.

Two published scalings look at the current length of the sequence (dynamic NTK and LongRoPE). A cached key
would then be wrong as soon as the sequence grows, so **we choose by the declared maximum length**:
`max_model_len` decides once, and decode equals prefill at every length. Results equal an implementation
that looks at the current length where that length falls on the same side.

Frequencies are computed on the CPU, operation by operation as checkpoints were trained with: one ulp of
frequency is 0.01 radians at position 100,000.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import AttentionError


class RopeScaling(ABC):
    """How trained frequencies are stretched to longer sequences."""

    @property
    @abstractmethod
    def attention_scaling(self) -> float:
        """What cosine and sine are multiplied by; scores grow by its square."""

    @abstractmethod
    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return radians per position of each of the `dim / 2` pairs, on the CPU.

        Args:
            dim: rotated channels of a head.
            theta: base of the geometric series.
            max_model_len: longest sequence that will be served; read where the published method looks at
                the current length.
            dtype: precision of the arithmetic.

        Raises:
            AttentionError: `dim` or `max_model_len` does not fit the scaling.
        """


@final
@dataclass(frozen=True)
class NoScaling(RopeScaling):
    """Frequencies as trained: `theta ** (-2i / dim)` (RoFormer, arXiv:2104.09864, eq. 15)."""

    @property
    def attention_scaling(self) -> float:
        """Rotations keep norms."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the geometric series."""
        return 1.0 / wavelengths(dim, theta, dtype)


UNSCALED = NoScaling()


@final
@dataclass(frozen=True)
class Linear(RopeScaling):
    """Position interpolation: all frequencies divided by `factor` (arXiv:2306.15595, eq. 4)."""

    factor: float

    def __post_init__(self) -> None:
        """Check the factor."""
        require_positive("Linear", factor=self.factor)

    @property
    def attention_scaling(self) -> float:
        """Rotations keep norms."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the series over `factor`."""
        return 1.0 / wavelengths(dim, theta, dtype) / self.factor


@final
@dataclass(frozen=True)
class DynamicNtk(RopeScaling):
    """NTK-aware scaling of the base by the length served (arXiv:2309.00071, section 3.3).

    `max_model_len` stands for the current length; up to `original_max` nothing changes.
    """

    factor: float
    original_max: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_positive("DynamicNtk", factor=self.factor, original_max=self.original_max)

    @property
    def attention_scaling(self) -> float:
        """Rotations keep norms."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the series over a base that grows with `max_model_len`."""
        if dim < 4:
            raise AttentionError(
                f"DynamicNtk needs at least 4 rotated channels, got dim {dim}; use another scaling"
            )
        length = max(declared(max_model_len, "DynamicNtk"), self.original_max)
        growth = (self.factor * length / self.original_max) - (self.factor - 1)
        return 1.0 / wavelengths(dim, theta * growth ** (dim / (dim - 2)), dtype)


@final
@dataclass(frozen=True)
class Llama3(RopeScaling):
    """Divide slow frequencies by `factor`, keep fast ones, blend between (Llama 3.1).

    `low` and `high` (`low_freq_factor`, `high_freq_factor`) are the turns over `original_max` positions
    under which a frequency is slow and over which it is fast; where they are one (Llama 4), none is between.
    """

    factor: float
    low: float
    high: float
    original_max: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_positive("Llama3", factor=self.factor, low=self.low, original_max=self.original_max)
        if self.low > self.high:
            raise AttentionError(
                f"Llama3 scaling needs low <= high, got {self.low} and {self.high}; swap them"
            )

    @property
    def attention_scaling(self) -> float:
        """Rotations keep norms."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the blended series."""
        trained = 1.0 / wavelengths(dim, theta, dtype)
        period = 2 * math.pi / trained
        weight = (self.original_max / period - self.low) / ((self.high - self.low) or 1.0)
        blended = (1 - weight) * trained / self.factor + weight * trained
        slow, fast = period > self.original_max / self.low, period < self.original_max / self.high
        return torch.where(slow, trained / self.factor, torch.where(fast, trained, blended))


@final
@dataclass(frozen=True)
class LongRope(RopeScaling):
    """A searched factor for every frequency, one set for short and one for long (arXiv:2402.13753).

    `max_model_len` over `original_max` takes the long set, for every sequence. Scores are scaled by
    `attention_factor`, or, where that is `None`, by the formula of the paper's code from
    `factor`, or from `max_positions / original_max` where the checkpoint states no factor.
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max: int
    max_positions: int
    attention_factor: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_positive("LongRope", original_max=self.original_max, max_positions=self.max_positions)
        require_positive("LongRope", short_factor=min(self.short_factor, default=0.0))
        require_positive("LongRope", long_factor=min(self.long_factor, default=0.0))
        if self.attention_factor is not None:
            require_positive("LongRope", attention_factor=self.attention_factor)
        if self.factor is not None:
            require_positive("LongRope", factor=self.factor)

    @property
    def attention_scaling(self) -> float:
        """`sqrt(1 + ln(factor) / ln(original_max))`, unless stated."""
        if self.attention_factor is not None:
            return self.attention_factor
        factor = self.max_positions / self.original_max if self.factor is None else self.factor
        return 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(self.original_max))

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the series over the set that `max_model_len` chooses."""
        is_long = declared(max_model_len, "LongRope") > self.original_max
        factors = self.long_factor if is_long else self.short_factor
        if len(factors) != dim // 2:
            raise AttentionError(
                f"LongRope has {len(factors)} factors for {dim // 2} frequencies; give one for each"
            )
        return 1.0 / (torch.tensor(factors, dtype=dtype, device="cpu") * wavelengths(dim, theta, dtype))


@final
@dataclass(frozen=True)
class Proportional(RopeScaling):
    """Rotate only the fastest `fraction` of the frequencies; the others stand still (Gemma 4).

    Unlike partial rotation, the exponents are those of the whole `dim`.
    """

    fraction: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_positive("Proportional", fraction=self.fraction, factor=self.factor)
        if self.fraction > 1:
            raise AttentionError(f"Proportional needs a fraction of at most 1, got {self.fraction}; lower it")

    @property
    def attention_scaling(self) -> float:
        """Rotations keep norms."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the series, zero from the fraction on."""
        series = 1.0 / wavelengths(dim, theta, dtype)
        series[int(self.fraction * dim // 2) :] = 0.0
        return series / self.factor


def wavelengths(dim: int, theta: float, dtype: torch.dtype) -> Float[Tensor, " half"]:
    """Return positions per radian of each pair: `theta ** (2i / dim)`."""
    return theta ** (torch.arange(0, dim, 2, dtype=dtype, device="cpu") / dim)


def declared(max_model_len: int | None, kind: str) -> int:
    """Return `max_model_len`, which `kind` cannot do without."""
    if max_model_len is None:
        raise AttentionError(f"{kind} chooses by the declared maximum length and got none; set max_model_len")
    return max_model_len


def require_positive(kind: str, **numbers: float | int) -> None:
    """Refuse a number that would stop or reverse the rotation."""
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise AttentionError(f"{kind} scaling needs a finite {name} above 0, got {value}; correct it")
