"""Predict noise by a UNet that reads a text: Stable Diffusion. Knows nothing of files."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.denoise.denoiser import Denoiser
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.resnet import Double, Halve, Resnet
from cynosure.models.denoise.text_blocks import TextBlock
from cynosure.models.denoise.time_embedding import NumberEmbedding
from cynosure.models.denoise.unet_spec import LevelSpec, UNetSpec


class Level(nn.Module):
    """The resnets of one resolution, and the blocks that read the text behind each."""

    def __init__(self, spec: UNetSpec, level: LevelSpec, in_channels: list[int]) -> None:
        """Hold a resnet for each of `in_channels`."""
        super().__init__()
        channels, groups = level.channels, spec.norm.num_groups
        self.resnets = nn.ModuleList(
            Resnet(width, channels, spec.norm, spec.time_width) for width in in_channels
        )
        block = level.block
        blocks = [] if block is None else [TextBlock(block, channels, groups) for _ in in_channels]
        self.blocks = nn.ModuleList(blocks)

    def mix(
        self,
        index: int,
        x: Float[Tensor, "n c h w"],
        time: Float[Tensor, "n t"],
        given: DenoisingPass,
    ) -> Float[Tensor, "n c2 h w"]:
        """Return what the resnet `index` and its block make of the image."""
        x = self.resnets[index](x, time)
        return self.blocks[index](x, given) if len(self.blocks) else x


class Down(nn.Module):
    """A level of the way down."""

    def __init__(self, spec: UNetSpec, level: LevelSpec, in_channels: int) -> None:
        """Hold the level, and what halves the image behind it."""
        super().__init__()
        widths = [in_channels, *[level.channels] * (level.num_resnets - 1)]
        self.level = Level(spec, level, widths)
        self.resample = Halve(level.channels, is_even=True) if level.has_resample else None

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        time: Float[Tensor, "n t"],
        given: DenoisingPass,
    ) -> list[Tensor]:
        """Return the image behind each resnet, and the halved one; the last goes on down."""
        left = []
        for index in range(len(self.level.resnets)):
            x = self.level.mix(index, x, time, given)
            left.append(x)
        return left if self.resample is None else [*left, self.resample(x)]


class Up(nn.Module):
    """A level of the way up; each resnet also reads what the way down left last."""

    def __init__(self, spec: UNetSpec, level: LevelSpec, in_channels: int, left: list[int]) -> None:
        """Hold the level, and what doubles the image behind it; `left` are the channels that are read."""
        super().__init__()
        widths = [in_channels, *[level.channels] * (level.num_resnets - 1)]
        self.level = Level(spec, level, [a + b for a, b in zip(widths, left, strict=True)])
        self.resample = Double(level.channels) if level.has_resample else None

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        left: list[Tensor],
        time: Float[Tensor, "n t"],
        given: DenoisingPass,
    ) -> Float[Tensor, "n c2 h2 w2"]:
        """Return the image; what is read of `left` is taken off it."""
        for index in range(len(self.level.resnets)):
            x = self.level.mix(index, torch.cat([x, left.pop()], 1), time, given)
        return x if self.resample is None else self.resample(x, left[-1].shape[2:])


class Middle(nn.Module):
    """The lowest resolution: a resnet, a block that reads the text, a resnet."""

    def __init__(self, spec: UNetSpec) -> None:
        """Hold the three."""
        super().__init__()
        channels = spec.down[-1].channels
        self.resnets = nn.ModuleList(Resnet(channels, channels, spec.norm, spec.time_width) for _ in range(2))
        self.block = TextBlock(spec.middle, channels, spec.norm.num_groups)

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, "n t"], given: DenoisingPass
    ) -> Float[Tensor, "n c h w"]:
        """Return the image."""
        first, second = self.resnets
        return second(self.block(first(x, time), given), time)


@final
class UNet(Denoiser):
    """Convolutions at several resolutions, with attention to a text (arXiv 2112.10752)."""

    def __init__(self, spec: UNetSpec) -> None:
        """Hold the levels; the way up reads what the way down left, last first."""
        super().__init__()
        self.spec, self.inputs = spec, spec.inputs
        channels = spec.first_channels
        self.first = nn.Conv2d(spec.inputs.in_channels, channels, 3, padding=1)
        self.time = NumberEmbedding(channels, spec.time_width)
        left, down, up = [channels], [], []
        for level in spec.down:
            down.append(Down(spec, level, channels))
            channels = level.channels
            left += [channels] * (level.num_resnets + level.has_resample)
        for level in spec.up:
            read = [left.pop() for _ in range(level.num_resnets)]
            up.append(Up(spec, level, channels, read))
            channels = level.channels
        assert not left, "the way up reads all that the way down left"
        self.down, self.middle, self.up = nn.ModuleList(down), Middle(spec), nn.ModuleList(up)
        self.last_norm = spec.norm.build(channels)
        self.last = nn.Conv2d(channels, spec.inputs.out_channels, 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.first.weight.dtype

    def forward(
        self, latents: Float[Tensor, "n c h w"], timesteps: Float[Tensor, " n"], given: DenoisingPass
    ) -> Float[Tensor, "n out h w"]:
        """Compute what `predict` says."""
        time = self.time(timesteps, self.dtype)
        x = self.first(latents)
        left = [x]
        for level in self.down:
            left += level(left[-1], time, given)
        x = self.middle(left[-1], time, given)
        for level in self.up:
            x = level(x, left, time, given)
        return self.last(functional.silu(self.last_norm(x)))
