"""Stretch slow rotary frequencies and keep fast ones. Knows nothing of tensors that rotate.

YaRN, arXiv:2309.00071, section 3.2 ("NTK-by-parts") and 3.4 (attention scaling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.positions.scaling import RopeScaling, require_positive, wavelengths
from cynosure.core.errors import AttentionError


@final
@dataclass(frozen=True)
class Yarn(RopeScaling):
    """Frequencies below `beta_slow` turns in `original_max` are divided by `factor`, above `beta_fast` kept.

    Scores are scaled by `attention_factor`; where that is `None` it follows from `factor`, and from the
    ratio of `mscale` to `mscale_all_dim` where both are set (DeepSeek). `truncate` widens the
    ramp between slow and fast to whole channels; GPT-OSS does not.
    """

    factor: float
    original_max: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_positive("Yarn", factor=self.factor, original_max=self.original_max, beta_slow=self.beta_slow)
        if self.attention_factor is not None:
            require_positive("Yarn", attention_factor=self.attention_factor)
        if not self.beta_slow <= self.beta_fast:
            raise AttentionError(
                f"Yarn scaling needs beta_slow <= beta_fast, got {self.beta_slow}, {self.beta_fast}; swap"
            )

    @property
    def attention_scaling(self) -> float:
        """What cosine and sine are multiplied by (section 3.4)."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _magnitude(self.factor, self.mscale) / _magnitude(self.factor, self.mscale_all_dim)
        return _magnitude(self.factor, 1.0)

    @property
    def score_scale(self) -> float:
        """What DeepSeek-V2 and V3 multiply the softmax scale by, beside `attention_scaling`; else unused."""
        return _magnitude(self.factor, self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    def inverse_frequencies(
        self, dim: int, theta: float, max_model_len: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " half"]:
        """Return the series, ramped from kept to divided."""
        kept = wavelengths(dim, theta, dtype)
        low, high = self._ramp(dim, theta)
        channels = torch.arange(dim // 2, dtype=dtype, device="cpu")
        share_kept = 1 - ((channels - low) / (high - low)).clamp(0, 1)
        return 1.0 / (self.factor * kept) * (1 - share_kept) + 1.0 / kept * share_kept

    def _ramp(self, dim: int, theta: float) -> tuple[float, float]:
        """Return the channels at which frequencies begin and end to be divided."""

        def channel(turns: float) -> float:
            return dim * math.log(self.original_max / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = channel(self.beta_fast), channel(self.beta_slow)
        if self.truncate:
            low, high = float(math.floor(low)), float(math.ceil(high))
        low, high = max(low, 0.0), min(high, dim - 1.0)
        # A ramp of no width is a step: the published code widens it by this much.
        return low, high + 0.001 if low == high else high


def _magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
