"""Describe an autoencoder of images as a value. Knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.denoise.resnet import GroupNormSpec


@dataclass(frozen=True)
class AutoencoderSpec:
    """Images to latents of a normal distribution, and back (arXiv 1312.6114; 2112.10752, section 3.1).

    - `channels`: of each resolution, the largest first; every one but the last is halved behind.
    - `num_resnets`: at each resolution on the way to latents; the way back has one more.
    - `scaling_factor`, `shift_factor`: a denoiser's latents are `(latents - shift) * scale`.
    """

    image_channels: int
    decoded_channels: int
    latent_channels: int
    channels: tuple[int, ...]
    num_resnets: int
    norm: GroupNormSpec
    scaling_factor: float
    shift_factor: float = 0.0
    has_attention: bool = True
    has_latent_mix: bool = True
    has_decoder_mix: bool = True

    def __post_init__(self) -> None:
        """Refuse channels that groups don't share evenly."""
        for width in self.channels:
            if width % self.norm.num_groups:
                raise UnsupportedConfig(
                    f"{width} channels don't share {self.norm.num_groups} groups of norms evenly. Correct "
                    "block_out_channels or norm_num_groups in config.json."
                )

    @property
    def side_multiple(self) -> int:
        """Pixels of a side of an image for one of its latents."""
        return 2 ** (len(self.channels) - 1)
