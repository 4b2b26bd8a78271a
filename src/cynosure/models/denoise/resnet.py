"""Mix the neighbourhood of each place, and change how many places there are. Knows nothing of attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class GroupNormSpec:
    """A normalisation over groups of channels and all places (arXiv 1803.08494)."""

    num_groups: int
    eps: float

    def build(self, num_channels: int) -> nn.GroupNorm:
        """Return the module for images of `num_channels`."""
        return nn.GroupNorm(self.num_groups, num_channels, self.eps)


class Resnet(nn.Module):
    """Two convolutions and what came in; how noisy the image is enters between them (arXiv 2006.11239)."""

    def __init__(
        self, in_channels: int, out_channels: int, norm: GroupNormSpec, time_width: int | None = None
    ) -> None:
        """Hold the convolutions; without `time_width`, none is told how noisy anything is."""
        super().__init__()
        self.first_norm = norm.build(in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = None if time_width is None else nn.Linear(time_width, out_channels)
        self.second_norm = norm.build(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        is_same = in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n c2 h w"]:
        """Return the mixed image."""
        inner = self.first(functional.silu(self.first_norm(x)))
        if self.time is not None:
            assert time is not None
            inner = inner + self.time(functional.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.second(functional.silu(self.second_norm(inner)))


class Halve(nn.Module):
    """A convolution of stride 2; `is_even` pads both ends, else the far one alone."""

    def __init__(self, channels: int, *, is_even: bool) -> None:
        """Hold the convolution."""
        super().__init__()
        self.padding = (1, 1, 1, 1) if is_even else (0, 1, 0, 1)
        self.mix = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Return an image of half as many rows and columns."""
        return self.mix(functional.pad(x, self.padding))


class Double(nn.Module):
    """Repeat places, then mix them."""

    def __init__(self, channels: int) -> None:
        """Hold the convolution."""
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "n c h w"], size: torch.Size | tuple[int, int]
    ) -> Float[Tensor, "n c h2 w2"]:
        """Return an image of `size`; where what was halved had odd sides, not quite double."""
        return self.mix(functional.interpolate(x, size=tuple(size), mode="nearest"))
