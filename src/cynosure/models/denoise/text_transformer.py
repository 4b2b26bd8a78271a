"""Predict noise by a transformer that reads a text: PixArt. Knows nothing of files."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.denoise.denoiser import Denoiser
from cynosure.models.denoise.denoising_pass import DenoisingPass
from cynosure.models.denoise.inputs import Condition
from cynosure.models.denoise.label_transformer import NUM_WAVES, embed_patches, give_patches
from cynosure.models.denoise.modulated_layer import OUTPUT_EPS, ModulatedLayer, modulated
from cynosure.models.denoise.time_embedding import NumberEmbedding
from cynosure.models.denoise.transformer_spec import TransformerSpec


class SizeEmbedding(nn.Module):
    """A third of a vector for an image's height, for its width and for one over the other."""

    def __init__(self, width: int) -> None:
        """Hold the embeddings; height and width share one."""
        super().__init__()
        self.side = NumberEmbedding(NUM_WAVES, width // 3)
        self.ratio = NumberEmbedding(NUM_WAVES, width // 3)

    def forward(self, condition: Condition, dtype: torch.dtype) -> Float[Tensor, "n c"]:
        """Return the vectors of all images."""
        assert condition.resolution is not None
        assert condition.aspect_ratio is not None
        sides = self.side(condition.resolution.flatten(), dtype).unflatten(0, (-1, 2)).flatten(1)
        return torch.cat([sides, self.ratio(condition.aspect_ratio.flatten(), dtype)], -1)


class CaptionProjection(nn.Module):
    """Bring the states of an encoder of texts to the width of the layers."""

    def __init__(self, text_width: int, width: int) -> None:
        """Hold two linear layers."""
        super().__init__()
        self.up = nn.Linear(text_width, width)
        self.down = nn.Linear(width, width)

    def forward(self, text: Float[Tensor, "n s d"]) -> Float[Tensor, "n s c"]:
        """Return the projected tokens."""
        inner = functional.gelu(self.up(text.flatten(0, 1)), approximate="tanh")
        return self.down(inner).unflatten(0, text.shape[:2])


class TableModulation(nn.Module):
    """A layer's own share of what modulates it."""

    def __init__(self, width: int) -> None:
        """Hold the table."""
        super().__init__()
        self.table = nn.Parameter(torch.empty(6, width), requires_grad=False)

    def forward(self, shared: Float[Tensor, "n 6 c"]) -> Float[Tensor, "n 6 c"]:
        """Return shifts, scales and gates."""
        return self.table + shared


@final
class TextTransformer(Denoiser):
    """A transformer over patches of latents that attends to a text (adaLN-single; arXiv 2310.00426)."""

    def __init__(self, spec: TransformerSpec) -> None:
        """Hold the embeddings, the layers, and each layer's own share of what modulates them."""
        super().__init__()
        inputs, width = spec.inputs, spec.hidden_size
        self.spec, self.inputs = spec, inputs
        self.patch = nn.Linear(inputs.in_channels * spec.patch_size**2, width)
        self.time = NumberEmbedding(NUM_WAVES, width)
        self.size = SizeEmbedding(width) if inputs.has_sizes else None
        caption = spec.caption_width
        self.caption = None if caption is None else CaptionProjection(caption, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.layers = nn.ModuleList(
            ModulatedLayer(spec, TableModulation(width)) for _ in range(spec.num_layers)
        )
        self.output_table = nn.Parameter(torch.empty(2, width), requires_grad=False)
        self.output = nn.Linear(width, inputs.out_channels * spec.patch_size**2)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.output_table.dtype

    def forward(
        self, latents: Float[Tensor, "n c h w"], timesteps: Float[Tensor, " n"], given: DenoisingPass
    ) -> Float[Tensor, "n out h w"]:
        """Compute what `predict` says."""
        if self.caption is not None:
            given = replace(given, text=self.caption(given.text))
        told = self.time(timesteps, self.dtype)
        told = told if self.size is None else told + self.size(given.condition, self.dtype)
        shared = self.modulation(functional.silu(told)).unflatten(-1, (6, -1))
        x = embed_patches(self.patch, self.spec, latents)
        for layer in self.layers:
            assert isinstance(layer, ModulatedLayer)
            x = layer(x, layer.modulation(shared), given)
        shift, scale = (self.output_table + told[:, None]).split(1, 1)
        return give_patches(self.output, self.spec, modulated(x, shift, scale, OUTPUT_EPS), latents.shape[2])
