"""Predict noise by a transformer that is told a class: DiT. Knows nothing of files."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.denoise.denoiser import Denoiser
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.modulated_layer import OUTPUT_EPS, ModulatedLayer, modulated
from cynosure.models.denoise.patches import from_patches, sine_positions
from cynosure.models.denoise.time_embedding import NumberEmbedding
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.embedding import dtype_of, embedding
from cynosure.models.vision import patches_of

NUM_WAVES = 256


class LabelModulation(nn.Module):
    """What a timestep and a class say to one layer; each layer has an embedding of its own."""

    def __init__(self, width: int, num_labels: int) -> None:
        """Hold both embeddings and the projection."""
        super().__init__()
        self.time = NumberEmbedding(NUM_WAVES, width, shift=1.0)
        self.label = embedding(num_labels, width)
        self.linear = nn.Linear(width, 6 * width)

    def embed(
        self, timesteps: Float[Tensor, " n"], labels: Int[Tensor, " n"], dtype: torch.dtype
    ) -> Float[Tensor, "n c"]:
        """Return the sum of both embeddings."""
        return self.time(timesteps, dtype) + self.label(labels)

    def forward(
        self, timesteps: Float[Tensor, " n"], labels: Int[Tensor, " n"], dtype: torch.dtype
    ) -> Float[Tensor, "n 6 c"]:
        """Return shifts, scales and gates."""
        return self.linear(functional.silu(self.embed(timesteps, labels, dtype))).unflatten(-1, (6, -1))


@final
class LabelTransformer(Denoiser):
    """A transformer over patches of latents, with a class (adaLN-Zero; arXiv 2212.09748)."""

    def __init__(self, spec: TransformerSpec) -> None:
        """Hold the projections of patches, and the layers with what modulates them."""
        super().__init__()
        inputs, width = spec.inputs, spec.hidden_size
        assert inputs.num_labels is not None, "a class is what modulates"
        self.spec, self.inputs = spec, inputs
        self.patch = nn.Linear(inputs.in_channels * spec.patch_size**2, width)
        self.layers = nn.ModuleList(
            ModulatedLayer(spec, LabelModulation(width, inputs.num_labels)) for _ in range(spec.num_layers)
        )
        self.output_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, inputs.out_channels * spec.patch_size**2)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return dtype_of(self._first.label)

    def forward(
        self, latents: Float[Tensor, "n c h w"], timesteps: Float[Tensor, " n"], given: DenoisingPass
    ) -> Float[Tensor, "n out h w"]:
        """Compute what `predict` says."""
        labels = given.condition.labels
        assert labels is not None
        signal = (timesteps, labels, self.dtype)
        x = embed_patches(self.patch, self.spec, latents)
        for layer in self.layers:
            assert isinstance(layer, ModulatedLayer)
            x = layer(x, layer.modulation(*signal), given)
        # The first layer's embeddings speak to the output too.
        told = self.output_modulation(functional.silu(self._first.embed(*signal)))
        shift, scale = told[:, None].chunk(2, -1)
        return give_patches(self.output, self.spec, modulated(x, shift, scale, OUTPUT_EPS), latents.shape[2])

    @property
    def _first(self) -> LabelModulation:
        layer = self.layers[0]
        assert isinstance(layer, ModulatedLayer)
        assert isinstance(layer.modulation, LabelModulation)
        return layer.modulation


def embed_patches(
    linear: nn.Module, spec: TransformerSpec, latents: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n t c2"]:
    """Project each patch and add where it lies."""
    num_rows, num_columns = (side // spec.patch_size for side in latents.shape[2:])
    patches = patches_of(latents, spec.patch_size)
    x = linear(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
    places = sine_positions(num_rows, num_columns, spec.hidden_size, base=spec.position_base)
    return (x + places.to(x.device)).to(x.dtype)


def give_patches(
    linear: nn.Module, spec: TransformerSpec, x: Float[Tensor, "n t c"], height: int
) -> Float[Tensor, "n out h w"]:
    """Project each token to its patch and put patches together."""
    patches = linear(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return from_patches(patches, height // spec.patch_size, spec.patch_size)
