"""Turn images into latents and latents into images. Knows nothing of noise, or how pixels were made."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cynosure.attention import Heads
from cynosure.core.errors import InputError
from cynosure.models.denoise.autoencoder_spec import AutoencoderSpec
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.image_attention import ImageAttention
from cynosure.models.denoise.resnet import Double, Halve, Resnet

#: Logarithms of variances beyond these are of no use to anyone, and their exponentials overflow.
MIN_LOGVAR, MAX_LOGVAR = -30.0, 20.0


@dataclass(frozen=True, eq=False)
class LatentDistribution:
    """The normal distribution of an image's latents, each of them by itself."""

    mean: Float[Tensor, "n c h w"]
    logvar: Float[Tensor, "n c h w"]

    @property
    def deviation(self) -> Float[Tensor, "n c h w"]:
        """Standard deviations."""
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "n c h w"]:
        """Draw latents."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=torch.float32)
        return self.mean + self.deviation * noise.to(self.mean)


class AutoencoderMiddle(nn.Module):
    """The lowest resolution: a resnet, attention among places where the spec has it, a resnet."""

    def __init__(self, spec: AutoencoderSpec) -> None:
        """Hold the parts; attention has one head."""
        super().__init__()
        width = spec.channels[-1]
        self.first, self.second = (Resnet(width, width, spec.norm) for _ in range(2))
        self.norm = spec.norm.build(width) if spec.has_attention else None
        attention = ImageAttention(width, Heads.of(1, width), has_bias=True) if spec.has_attention else None
        self.attention = attention

    def forward(self, x: Float[Tensor, "n c h w"], given: DenoisingPass) -> Float[Tensor, "n c h w"]:
        """Return the image."""
        x = self.first(x)
        if self.attention is not None and self.norm is not None:
            taken = self.attention(self.norm(x).flatten(2).transpose(1, 2), given)
            x = x + taken.transpose(1, 2).unflatten(2, x.shape[2:])
        return self.second(x)


class ImageLevel(nn.Module):
    """The resnets of one resolution, and what halves or doubles behind them."""

    def __init__(self, spec: AutoencoderSpec, widths: list[int], resample: nn.Module | None) -> None:
        """Hold a resnet between each two of `widths`."""
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(before, behind, spec.norm) for before, behind in pairwise(widths))
        self.resample = resample

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Return the image."""
        for resnet in self.resnets:
            x = resnet(x)
        if isinstance(self.resample, Double):
            return self.resample(x, (2 * x.shape[2], 2 * x.shape[3]))
        return x if self.resample is None else self.resample(x)


class ImageEncoder(nn.Module):
    """Images to means and logarithms of variances, side by side."""

    def __init__(self, spec: AutoencoderSpec) -> None:
        """Hold the levels, the largest first."""
        super().__init__()
        self.first = nn.Conv2d(spec.image_channels, spec.channels[0], 3, padding=1)
        self.levels = nn.ModuleList()
        before = spec.channels[0]
        for index, width in enumerate(spec.channels):
            is_last = index == len(spec.channels) - 1
            resample = None if is_last else Halve(width, is_even=False)
            self.levels.append(ImageLevel(spec, [before, *[width] * spec.num_resnets], resample))
            before = width
        self.middle = AutoencoderMiddle(spec)
        self.last_norm = spec.norm.build(before)
        self.last = nn.Conv2d(before, 2 * spec.latent_channels, 3, padding=1)
        width = 2 * spec.latent_channels
        self.mix = nn.Conv2d(width, width, 1) if spec.has_latent_mix else nn.Identity()

    def forward(self, images: Float[Tensor, "n c h w"], given: DenoisingPass) -> Float[Tensor, "n c2 h2 w2"]:
        """Return both, stacked by channel."""
        x = self.first(images)
        for level in self.levels:
            x = level(x)
        x = self.middle(x, given)
        return self.mix(self.last(functional.silu(self.last_norm(x))))


class ImageDecoder(nn.Module):
    """Latents to images."""

    def __init__(self, spec: AutoencoderSpec) -> None:
        """Hold the levels, the smallest first."""
        super().__init__()
        width = spec.latent_channels
        self.mix = nn.Conv2d(width, width, 1) if spec.has_decoder_mix else nn.Identity()
        before = spec.channels[-1]
        self.first = nn.Conv2d(width, before, 3, padding=1)
        self.middle = AutoencoderMiddle(spec)
        self.levels = nn.ModuleList()
        for index, width in enumerate(reversed(spec.channels)):
            is_last = index == len(spec.channels) - 1
            widths = [before, *[width] * (spec.num_resnets + 1)]
            self.levels.append(ImageLevel(spec, widths, None if is_last else Double(width)))
            before = width
        self.last_norm = spec.norm.build(before)
        self.last = nn.Conv2d(before, spec.decoded_channels, 3, padding=1)

    def forward(self, latents: Float[Tensor, "n c h w"], given: DenoisingPass) -> Float[Tensor, "n c2 h2 w2"]:
        """Return images."""
        x = self.middle(self.first(self.mix(latents)), given)
        for level in self.levels:
            x = level(x)
        return self.last(functional.silu(self.last_norm(x)))


@final
class Autoencoder(nn.Module):
    """A variational autoencoder of images (AutoencoderKL; arXiv 2112.10752, section 3.1).

    What `encode` gives and `decode` takes are its own latents; those of a denoiser are shifted and scaled,
    as the spec says (`to_denoiser`, `from_denoiser`).
    """

    def __init__(self, spec: AutoencoderSpec) -> None:
        """Hold both directions."""
        super().__init__()
        self.spec = spec
        self.encoder, self.decoder = ImageEncoder(spec), ImageDecoder(spec)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.decoder.first.weight.dtype

    def encode(self, images: Float[Tensor, "*shape"], *, backend: str = "auto") -> LatentDistribution:
        """Return the distribution of the images' latents.

        Args:
            images: `[n, channels, height, width]`, from -1 to 1, any float dtype.
            backend: of attention, by name.

        Raises:
            InputError: the images have other channels, or sides that latents don't cover evenly.
        """
        _check(images, "images", self.spec.image_channels, self.spec.side_multiple)
        both = self.encoder(images.to(self.dtype), DenoisingPass(backend=backend))
        mean, logvar = both.chunk(2, 1)
        return LatentDistribution(mean, logvar.clamp(MIN_LOGVAR, MAX_LOGVAR))

    def decode(
        self, latents: Float[Tensor, "*shape"], *, backend: str = "auto"
    ) -> Float[Tensor, "n c2 h2 w2"]:
        """Return images, channels from about -1 to 1.

        Raises:
            InputError: the latents have other channels.
        """
        _check(latents, "latents", self.spec.latent_channels, 1)
        return self.decoder(latents.to(self.dtype), DenoisingPass(backend=backend))

    def to_denoiser(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return latents as the denoisers read them that were trained behind this encoder."""
        return (latents - self.spec.shift_factor) * self.spec.scaling_factor

    def from_denoiser(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return what such denoisers give as `decode` reads it."""
        return latents / self.spec.scaling_factor + self.spec.shift_factor


def _check(x: Tensor, name: str, num_channels: int, multiple: int) -> None:
    fits = x.dim() == 4 and x.shape[0] and x.shape[1] == num_channels
    if not fits or not all(side and side % multiple == 0 for side in x.shape[2:]):
        sides = "" if multiple == 1 else f", both sides multiples of {multiple}"
        raise InputError(
            f"{name} are of shape {list(x.shape)}; the model reads [n, {num_channels}, height, width], n at "
            f"least 1{sides}. Give them so; nothing is cut."
        )
