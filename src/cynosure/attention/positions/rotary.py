"""Rotate pairs of channels by given angles. Knows nothing of frequencies or scalings.

RoFormer (arXiv:2104.09864, eq. 34): the pair `(a, b)` at angle t becomes
`(a cos t - b sin t, b cos t + a sin t)`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.positions.position import Position
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class RotaryTable:
    """Cosine and sine of one forward pass; every layer of the same kind reuses it.

    The first `2 * half` channels of a head rotate and the rest pass. Pairs are `(i, i + half)` (GPT-NeoX,
    Llama) or, interleaved, `(2i, 2i + 1)` (GPT-J, DeepSeek).
    """

    cos: Float[Tensor, "n half"]
    sin: Float[Tensor, "n half"]
    is_interleaved: bool = False

    @classmethod
    def of_angles(
        cls,
        angles: Float[Tensor, "n half"],
        magnitude: float,
        dtype: torch.dtype,
        is_interleaved: bool = False,
    ) -> RotaryTable:
        """Tabulate `angles` (radians), scale by `magnitude`, then round to `dtype`."""
        return cls((angles.cos() * magnitude).to(dtype), (angles.sin() * magnitude).to(dtype), is_interleaved)


class Rotary(Position):
    """A position that rotates queries and keys, so that their product sees distances alone."""

    @abstractmethod
    def tables(self, positions: Int[Tensor, "*axes n"], dtype: torch.dtype = torch.float32) -> RotaryTable:
        """Return the table of `positions` for tensors of `dtype`."""

    @abstractmethod
    def rotate(self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "*axes n"]) -> Float[Tensor, "n h d"]:
        """Put unrotated `x` at `positions`."""

    @abstractmethod
    def unrotate(
        self, x: Float[Tensor, "n h d"], positions: Int[Tensor, "*axes n"]
    ) -> Float[Tensor, "n h d"]:
        """Undo `rotate(x, positions)`."""

    @abstractmethod
    def shift(self, x: Float[Tensor, "n h d"], deltas: Int[Tensor, "*axes n"]) -> Float[Tensor, "n h d"]:
        """Move already rotated `x` by `deltas` positions, as a document's cached keys move."""


def angle_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which angles of a tensor of `dtype` are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def apply(x: Float[Tensor, "n h d"], table: RotaryTable) -> Float[Tensor, "n h d"]:
    """Rotate the first channels of every head of `x` by `table`.

    Raises:
        AttentionError: the table is of another length or dtype, or wider than a head.
    """
    dim = 2 * table.cos.shape[1]
    if table.cos.shape[0] != x.shape[0] or table.cos.dtype != x.dtype:
        raise AttentionError(
            f"a rotary table of {table.cos.shape[0]} rows in {table.cos.dtype} does not fit "
            f"{x.shape[0]} tokens in {x.dtype}; build it with tables(positions, x.dtype)"
        )
    if dim > x.shape[2]:
        raise AttentionError(
            f"cannot rotate {dim} channels of a head of {x.shape[2]}; lower dim to the head's"
        )
    cos, sin = table.cos[:, None], table.sin[:, None]
    part, rest = x[..., :dim], x[..., dim:]
    if table.is_interleaved:
        a, b = part[..., 0::2], part[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
        return torch.cat((turned, rest), dim=-1)
    a, b = part.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)
