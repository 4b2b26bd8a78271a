"""Cut latents into patches, say where each lies, put them together again. Knows nothing of layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def sine_positions(
    num_rows: int, num_columns: int, width: int, *, base: float
) -> Float[Tensor, "patches width"]:
    """Return a vector a patch, row by row: waves of its column, then of its row (arXiv 2212.09748).

    Whatever their number, patches of a side lie at equal distances in `[0, base)`.
    """
    rows = torch.arange(num_rows, dtype=torch.float64) / (num_rows / base)
    columns = torch.arange(num_columns, dtype=torch.float64) / (num_columns / base)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = [places.flatten()[:, None] * frequencies for places in (across, down)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], -1).float()


def from_patches(
    patches: Float[Tensor, "n patches width"], num_rows: int, size: int
) -> Float[Tensor, "n c h w"]:
    """Put squares of `size` together, row by row; channels come last in each."""
    x = patches.unflatten(1, (num_rows, -1)).unflatten(-1, (size, size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
