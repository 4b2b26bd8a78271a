"""Describe how the codes of one weight lie in memory. Knows nothing of how they are found.

The layout is canonical and row-major; packed copies for a kernel are made from it and thrown away.

- int8: `codes` int8 `[out, in]` in -127..127, `scale` float32 `[out]`; a weight is `code * scale[row]`.
- int4: `codes` uint8 `[out, in / 2]`, two in a byte, the even column in the low half; `scale` bfloat16
  `[out, in / group]`; a weight is `(half - 8) * scale[row, column // group]`. A scale may be negative: the
  largest weight of a group often becomes -8, which reaches further than 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.core.errors import UnsupportedConfig


class Coded(NamedTuple):
    """The codes of one weight, and what they are multiplied by."""

    codes: Int[Tensor, "*lead out width"]
    scale: Float[Tensor, "*lead out *groups"]


@dataclass(frozen=True)
class CodeFormat:
    """Bits of a code, and how many weights of a row share a scale: `None` is the whole row."""

    bits: int
    group_size: int | None = None

    @property
    def codes_dtype(self) -> torch.dtype:
        """What codes are stored in."""
        return torch.int8 if self.bits == 8 else torch.uint8

    @property
    def scale_dtype(self) -> torch.dtype:
        """What scales are stored in: one a row costs nothing, one a group does."""
        return torch.float32 if self.group_size is None else torch.bfloat16

    def codes_shape(self, out_features: int, in_features: int) -> tuple[int, int]:
        """Return the shape of the codes of an `[out, in]` weight."""
        return out_features, in_features * self.bits // 8

    def scale_shape(self, out_features: int, in_features: int) -> tuple[int, ...]:
        """Return the shape of its scales."""
        if self.group_size is None:
            return (out_features,)
        return out_features, in_features // self.group_size

    def check(self, name: str, in_features: int) -> None:
        """Refuse a weight whose rows are not made of whole groups.

        Raises:
            UnsupportedConfig: names the weight.
        """
        if self.group_size is not None and in_features % self.group_size:
            raise UnsupportedConfig(
                f"{name} has rows of {in_features} weights, which are no multiple of the group of "
                f"{self.group_size}. Take a smaller group, or int8."
            )


INT8 = CodeFormat(8)
INT4 = CodeFormat(4, 32)
INT4_G128 = CodeFormat(4, 128)
