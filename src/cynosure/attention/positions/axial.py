"""Rotate by a position on each of several axes, all with the same frequencies. Knows nothing of images.

The towers of Qwen2-VL, arXiv:2409.12191, section 2.1. `MRope` shares one series of frequencies out instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.rotary import Rotary, RotaryTable, angle_dtype, apply
from cynosure.core.errors import AttentionError


@final
@dataclass(frozen=True)
class AxialRope(Rotary):
    """Rotary positions on `num_axes` axes; each turns an equal run of the pairs.

    Args:
        dim: rotated channels; the first of a head, the others pass.
        theta: base of the frequencies of every axis.
        num_axes: such as 2, for height and width.
    """

    dim: int
    theta: float = 10_000.0
    num_axes: int = 2

    def __post_init__(self) -> None:
        """Check that the axes share out the pairs evenly."""
        if self.num_axes < 1 or self.dim < 2 or self.dim % (2 * self.num_axes) or not self.theta > 1:
            raise AttentionError(
                f"{self.dim} channels with base {self.theta} can't be shared out among {self.num_axes} axes; "
                "give a multiple of twice their number, and a base over 1"
            )

    @property
    def adds_bias(self) -> bool:
        """Scores take none."""
        return False

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> None:
        """Nothing is added: keys and queries are already rotated."""

    def tables(self, positions: Int[Tensor, "axes n"], dtype: torch.dtype = torch.float32) -> RotaryTable:
        """Return the table of `positions` for tensors of `dtype`; every layer of this kind can reuse it."""
        if positions.shape[0] != self.num_axes:
            raise AttentionError(
                f"positions have {positions.shape[0]} axes and the spec {self.num_axes}; give as many"
            )
        wide = angle_dtype(dtype)
        width = self.dim // self.num_axes
        exponents = torch.arange(0, width, 2, device=positions.device).to(wide) / width
        angles = positions.to(wide)[..., None] / self.theta**exponents
        return RotaryTable.of_angles(torch.cat(angles.unbind(0), -1), 1.0, dtype)

    def rotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "axes n"]) -> Float[Tensor, "n h d"]:
        """Put unrotated `x` at `positions`."""
        return apply(x, self.tables(positions, x.dtype))

    def unrotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "axes n"]) -> Float[Tensor, "n h d"]:
        """Undo `rotate(x, positions)`."""
        return self.rotate(x, -positions)

    def shift(self, x: Float[Tensor, "n h d"], deltas: Int[Tensor, "axes n"]) -> Float[Tensor, "n h d"]:
        """Move already rotated `x` by `deltas` positions."""
        return self.rotate(x, deltas)
