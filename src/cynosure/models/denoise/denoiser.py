"""Predict the noise in latents: what all denoisers share. Knows nothing of the loop that removes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from cynosure.core.errors import InputError
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.inputs import NOTHING, Condition, DenoiserInputs, check_inputs


@dataclass(frozen=True, eq=False)
class WatchedPrediction:
    """What a denoiser says, and what each of its layers that read the text attended to.

    `text_shares` holds a tensor a layer, `[n, places, tokens]`: places row by row, each with the share of
    attention that every token of the text got, the mean over heads; padding gets 0 and the rest sums to 1.
    """

    latents: Float[Tensor, "n out h w"]
    text_shares: tuple[Tensor, ...]


class Denoiser(nn.Module, ABC):
    """A network that reads noisy latents, how noisy they are and what they are to become."""

    inputs: DenoiserInputs

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What the network computes in."""

    @abstractmethod
    def forward(
        self, latents: Float[Tensor, "n c h w"], timesteps: Float[Tensor, " n"], given: DenoisingPass
    ) -> Float[Tensor, "n out h w"]:
        """Compute what `predict` says, of what was checked."""

    def predict(
        self,
        latents: Float[Tensor, "*shape"],
        timesteps: Num[Tensor, "*steps"],
        condition: Condition = NOTHING,
        *,
        backend: str = "auto",
    ) -> Float[Tensor, "n out h w"]:
        """Return what the network was trained to say of latents: mostly their noise.

        Where `inputs.out_channels` is twice `in_channels`, the second half tells a learned variance. Images
        are independent of one another, so that those with a prompt and without may stand in one batch.

        Args:
            latents: noisy ones, `[n, channels, height, width]`, any float dtype.
            timesteps: `[n]`, how noisy each is, in steps of training, whole or not.
            condition: what the model reads besides; see `inputs`.
            backend: of attention, by name.

        Raises:
            InputError: a shape does not fit, or a condition is missing or not read.
        """
        return self._run(latents, timesteps, condition, backend, is_watched=False).latents

    def watch(
        self,
        latents: Float[Tensor, "*shape"],
        timesteps: Num[Tensor, "*steps"],
        condition: Condition,
        *,
        backend: str = "auto",
    ) -> WatchedPrediction:
        """Return what `predict` does, not one bit else, and what each place attended to of the text.

        Raises:
            InputError: a shape does not fit, a condition is missing or not read, or no text is read at all.
        """
        if self.inputs.text_width is None:
            raise InputError("the model reads no text, so that none is attended to. Use predict.")
        return self._run(latents, timesteps, condition, backend, is_watched=True)

    def _run(
        self, latents: Tensor, timesteps: Tensor, condition: Condition, backend: str, *, is_watched: bool
    ) -> WatchedPrediction:
        check_inputs(self.inputs, latents, timesteps, condition)
        given = DenoisingPass.of(condition, self.dtype, backend, is_watched=is_watched)
        predicted = self(latents.to(self.dtype), timesteps.float(), given)
        return WatchedPrediction(predicted, tuple(given.seen or ()))
