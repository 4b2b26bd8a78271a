"""Turn numbers such as a timestep into vectors. Knows nothing of what they count."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

MAX_PERIOD = 10_000.0


def waves(values: Float[Tensor, " n"], width: int, shift: float = 0.0) -> Float[Tensor, "n width"]:
    """Return cosines, then sines, of values times frequencies from 1 down to about 1/10000.

    With `shift` 1 the last frequency is exactly that (arXiv 2006.11239 has so, and sines first). An odd
    `width` ends with a zero.
    """
    half = width // 2
    exponents = -math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values.float()[:, None] * torch.exp(exponents / (half - shift))
    return functional.pad(torch.cat([angles.cos(), angles.sin()], -1), (0, width % 2))


class NumberEmbedding(nn.Module):
    """Two linear layers over waves of a number (arXiv 2006.11239, appendix B)."""

    def __init__(self, num_waves: int, width: int, shift: float = 0.0) -> None:
        """Hold both layers."""
        super().__init__()
        self.num_waves, self.shift = num_waves, shift
        self.up = nn.Linear(num_waves, width)
        self.down = nn.Linear(width, width)

    def forward(self, values: Float[Tensor, " n"], dtype: torch.dtype) -> Float[Tensor, "n width"]:
        """Return a vector a number."""
        return self.down(functional.silu(self.up(waves(values, self.num_waves, self.shift).to(dtype))))
