"""Run layers over the patches of images of any size, and merge them. Knows nothing of brands or files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionPlan
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.encoder import EncoderLayer
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.grid_positions import patch_positions
from cynosure.models.grid_vision_spec import GridVisionSpec, PatchGrid
from cynosure.models.norm import Norm


class Merger(nn.Module):
    """Make one vector of the patches of a square."""

    def __init__(self, spec: GridVisionSpec) -> None:
        """Hold the norm of patches and both layers."""
        super().__init__()
        self.width = spec.hidden_size * spec.merge_size**2
        self.norm = Norm(spec.norm, spec.hidden_size)
        self.up = nn.Linear(self.width, self.width)
        self.down = nn.Linear(self.width, spec.out_size)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "m out"]:
        """Return a vector for each square; its patches lie side by side."""
        squares = self.norm(x).reshape(-1, self.width)
        return self.down(nn.functional.gelu(self.up(squares)))


class GridVisionEncoder(nn.Module):
    """The whole graph; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: GridVisionSpec) -> None:
        """Hold the projection of patches, the layers and the merger."""
        super().__init__()
        self.spec = spec
        self.patch = nn.Linear(spec.patch_width, spec.hidden_size, bias=False)
        self.layers = nn.ModuleList(EncoderLayer(spec, layer) for layer in range(len(spec.layers)))
        self.merger = Merger(spec)

    def forward(
        self, patches: Float[Tensor, "n width"], grids: Sequence[PatchGrid], backend: str = "auto"
    ) -> Float[Tensor, "m out"]:
        """Return the merged vectors of all images, one after the other.

        Args:
            patches: of all images, as the checkpoint's preprocessor cuts them: square by square.
            grids: how many each image has.
            backend: of attention, by name.

        Raises:
            InputError: patches are of another width or number, or squares do not cover an image.
        """
        counts = [grid.height * grid.width for grid in grids]
        if tuple(patches.shape) != (sum(counts), self.spec.patch_width) or not counts:
            raise InputError(
                f"patches are of shape {list(patches.shape)}; the grids ask for "
                f"{[sum(counts), self.spec.patch_width]}. Give what the checkpoint's preprocessor gives."
            )
        positions = torch.cat([patch_positions(grid, self.spec.merge_size) for grid in grids], 1)
        ids = torch.zeros(sum(counts), dtype=torch.int64)
        # No layer reads token ids; each image is a sequence of its own.
        batch = Batch(ids, positions, AttentionPlan.of_lengths(counts), tuple(counts))
        forward_pass = ForwardPass(batch, backend=backend)
        x = self.patch(patches.to(self.merger.norm.weight.dtype))
        for layer in self.layers:
            x = layer(x, forward_pass)
        return self.merger(x)
