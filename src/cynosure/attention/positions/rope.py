"""Turn positions into rotations of queries and keys. Knows nothing of scores or masks.

RoFormer, arXiv:2104.09864; several axes at once: Qwen2-VL, arXiv:2409.12191, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.positions.rotary import Rotary, RotaryTable, angle_dtype, apply
from cynosure.attention.positions.scaling import UNSCALED, RopeScaling
from cynosure.core.errors import AttentionError


@final
@dataclass(frozen=True)
class Rope(Rotary):
    """Rotary positions.

    Args:
        dim: rotated channels; the first of a head, the others pass.
        theta: base of the frequencies.
        scaling: how the frequencies are stretched.
        is_interleaved: pairs are `(2i, 2i + 1)` and not `(i, i + dim / 2)`. The layout stays as it was, where
            some DeepSeek code also permutes to halves: the products of queries and keys are the same.
        max_model_len: declared maximum length; scalings that look at the current length need it.

    Angles are float32 (float64 for float64 tensors) and tables are rounded to the tensor's dtype.
    """

    dim: int
    theta: float
    scaling: RopeScaling = UNSCALED
    is_interleaved: bool = False
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        """Check that the frequencies exist, so that a bad spec fails when it is written."""
        _check_series(self.dim, self.theta)
        self.inverse_frequencies()

    @property
    def adds_bias(self) -> bool:
        """Scores take none."""
        return False

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> None:
        """Nothing is added: keys and queries are already rotated."""

    def inverse_frequencies(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " half"]:
        """Return radians per position of each pair."""
        return self.scaling.inverse_frequencies(self.dim, self.theta, self.max_model_len, dtype)

    def tables(self, positions: Int[Tensor, " n"], dtype: torch.dtype = torch.float32) -> RotaryTable:
        """Return the table of `positions` for tensors of `dtype`; every layer of this kind can reuse it."""
        return self._tables(positions, dtype, self.scaling.attention_scaling)

    def rotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, " n"]) -> Float[Tensor, "n h d"]:
        """Put unrotated `x` at `positions`."""
        return apply(x, self.tables(positions, x.dtype))

    def unrotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, " n"]) -> Float[Tensor, "n h d"]:
        """Undo `rotate(x, positions)`, the scaling's magnitude included."""
        return apply(x, self._tables(-positions, x.dtype, 1 / self.scaling.attention_scaling))

    def shift(self, x: Float[Tensor, "n h d"], deltas: Int[Tensor, " n"]) -> Float[Tensor, "n h d"]:
        """Move already rotated `x` by `deltas` positions; its magnitude stays."""
        return apply(x, self._tables(deltas, x.dtype, 1.0))

    def _tables(self, positions: Int[Tensor, " n"], dtype: torch.dtype, magnitude: float) -> RotaryTable:
        wide = angle_dtype(dtype)
        angles = positions.to(wide)[:, None] * self.inverse_frequencies(wide).to(positions.device)
        return RotaryTable.of_angles(angles, magnitude, dtype, self.is_interleaved)


@final
@dataclass(frozen=True)
class MRope(Rotary):
    """Rotary positions on several axes, such as time, height and width.

    Args:
        dim: rotated channels; the first of a head, the others pass.
        theta: base of the frequencies.
        sections: frequencies that each axis owns; they sum to `dim / 2`.
        scaling: how the frequencies are stretched.
        is_interleaved_sections: axes take turns (Qwen3-VL), not runs (Qwen2-VL).
        max_model_len: declared maximum length; scalings that look at the current length need it.

    A text token has the same position on every axis, and is then rotated as by `Rope`. Positions of one axis
    are taken as such.
    """

    dim: int
    theta: float
    sections: tuple[int, ...]
    scaling: RopeScaling = UNSCALED
    is_interleaved_sections: bool = False
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        """Check that the sections share out the frequencies."""
        _check_series(self.dim, self.theta)
        self.inverse_frequencies()
        axes = self.axis_of_pair() if self.sections else ()
        owned = tuple(axes.count(axis) for axis in range(len(self.sections)))
        if owned != self.sections or sum(owned) != self.dim // 2:
            raise AttentionError(
                f"sections {self.sections} of {self.dim // 2} frequencies come out as {owned}; make them sum "
                "to the number of frequencies, and nearly equal where axes take turns"
            )

    @property
    def adds_bias(self) -> bool:
        """Scores take none."""
        return False

    def bias(self, grid: Grid, table: Float[Tensor, "num_buckets h"] | None = None) -> None:
        """Nothing is added: keys and queries are already rotated."""

    def axis_of_pair(self) -> tuple[int, ...]:
        """Return the axis whose position turns each of the `dim / 2` pairs."""
        half, num_axes = self.dim // 2, len(self.sections)
        if not self.is_interleaved_sections:
            runs = [axis for axis, width in enumerate(self.sections) for _ in range(width)]
            return tuple(runs[:half])
        # The first axis keeps what the turns of the others leave over.
        turns = ((pair % num_axes, pair // num_axes) for pair in range(half))
        return tuple(axis if turn < self.sections[axis] else 0 for axis, turn in turns)

    def inverse_frequencies(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " half"]:
        """Return radians per position of each pair."""
        return self.scaling.inverse_frequencies(self.dim, self.theta, self.max_model_len, dtype)

    def tables(self, positions: Int[Tensor, "*axes n"], dtype: torch.dtype = torch.float32) -> RotaryTable:
        """Return the table of `positions` for tensors of `dtype`; every layer of this kind can reuse it."""
        if positions.dim() == 1:
            positions = positions.expand(len(self.sections), -1)
        return self._tables(positions, dtype, self.scaling.attention_scaling)

    def rotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "*axes n"]) -> Float[Tensor, "n h d"]:
        """Put unrotated `x` at `positions`."""
        return apply(x, self.tables(positions, x.dtype))

    def unrotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "axes n"]) -> Float[Tensor, "n h d"]:
        """Undo `rotate(x, positions)`, the scaling's magnitude included."""
        return apply(x, self._tables(-positions, x.dtype, 1 / self.scaling.attention_scaling))

    def shift(self, x: Float[Tensor, "n h d"], deltas: Int[Tensor, "axes n"]) -> Float[Tensor, "n h d"]:
        """Move already rotated `x` by `deltas` positions; its magnitude stays."""
        return apply(x, self._tables(deltas, x.dtype, 1.0))

    def _tables(self, positions: Int[Tensor, "axes n"], dtype: torch.dtype, magnitude: float) -> RotaryTable:
        if positions.shape[0] != len(self.sections):
            raise AttentionError(
                f"positions have {positions.shape[0]} axes but sections {len(self.sections)}; give as many"
            )
        wide = angle_dtype(dtype)
        owner = torch.tensor(self.axis_of_pair(), device=positions.device)
        angles = positions.to(wide)[owner].T * self.inverse_frequencies(wide).to(positions.device)
        return RotaryTable.of_angles(angles, magnitude, dtype)


def _check_series(dim: int, theta: float) -> None:
    if dim < 2 or dim % 2:
        raise AttentionError(
            f"rotated channels come in pairs; got dim {dim}, give an even number of at least 2"
        )
    if not 1 < theta < float("inf"):
        raise AttentionError(
            f"the base of rotary frequencies must be finite and over 1, got theta {theta}; correct it"
        )
