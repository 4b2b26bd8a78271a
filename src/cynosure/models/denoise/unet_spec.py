"""Describe a UNet that reads a text as a value. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.denoise.inputs import DenoiserInputs
from cynosure.models.denoise.resnet import GroupNormSpec
from cynosure.models.denoise.text_blocks import TextBlockSpec


@dataclass(frozen=True)
class LevelSpec:
    """One resolution on the way down or up: resnets, each with a block that reads the text, or without.

    `has_resample`: behind them the image is halved, or doubled.
    """

    channels: int
    num_resnets: int
    block: TextBlockSpec | None
    has_resample: bool


@dataclass(frozen=True)
class UNetSpec:
    """Levels down, a middle, levels up that also read what the way down left (arXiv 2112.10752)."""

    inputs: DenoiserInputs
    first_channels: int
    down: tuple[LevelSpec, ...]
    middle: TextBlockSpec
    up: tuple[LevelSpec, ...]
    norm: GroupNormSpec

    def __post_init__(self) -> None:
        """Refuse channels that groups or heads don't share evenly."""
        for channels in (self.first_channels, *(level.channels for level in self.down)):
            if channels % self.norm.num_groups:
                raise UnsupportedConfig(
                    f"{channels} channels don't share {self.norm.num_groups} groups of norms evenly. Correct "
                    "block_out_channels or norm_num_groups in config.json."
                )
        blocks = [(level.channels, level.block) for level in (*self.down, *self.up)]
        for channels, block in [*blocks, (self.down[-1].channels, self.middle)]:
            if block is not None and channels % block.num_heads:
                raise UnsupportedConfig(
                    f"{channels} channels don't share {block.num_heads} heads evenly. Correct "
                    "attention_head_dim, which counts heads, in config.json."
                )

    @property
    def time_width(self) -> int:
        """Channels of what says how noisy an image is."""
        return 4 * self.first_channels
