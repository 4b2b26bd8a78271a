"""Compose masks with `&`, `|` and `~`. Knows nothing of what a primitive mask looks at.

A mask is a frozen description: it names a kind and its parameters, and reads the arrays from a grid. Each
can materialise itself densely (`allowed`, the oracle of every backend) and bound itself by blocks
(`block_map`, what lets a backend skip work).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.block_map import BlockMap, Cover, Tiling
from cynosure.core.errors import AttentionError

# Largest count of tokens that a mask takes: position plus this stays within int64.
MAX_TOKENS = 2**60


class Mask(ABC):
    """Which keys each query may attend to."""

    @abstractmethod
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return, for every query and key of `grid`, whether the query may attend to the key.

        Raises:
            AttentionError: the grid lacks an array named by `needs`.
        """

    @abstractmethod
    def covers(self, tiling: Tiling) -> BlockMap:
        """Return the `Cover` of every block, from bounds alone.

        Raises:
            AttentionError: the grid lacks an array named by `needs`.
        """

    @property
    def needs(self) -> frozenset[str]:
        """The optional arrays of the plan that this mask reads, such as `keys.is_pad`."""
        return frozenset()

    def block_map(self, grid: Grid, q_block: int, kv_block: int) -> BlockMap:
        """Return the `Cover` of each block of `q_block` x `kv_block` cells.

        `EMPTY` and `FULL` are true of every cell of the block; `PARTIAL` promises nothing.

        Raises:
            AttentionError: a block has no cells, or the grid lacks an array named by `needs`.
        """
        return self.covers(Tiling(grid, q_block, kv_block))

    def __and__(self, other: Mask) -> Mask:
        return And((*_parts(self, And), *_parts(other, And))) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Or((*_parts(self, Or), *_parts(other, Or))) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return self.mask if isinstance(self, Not) else Not(self)


@dataclass(frozen=True, repr=False)
class And(Mask):
    """Allowed by every one of `masks`."""

    masks: tuple[Mask, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What any of the masks needs."""
        return frozenset().union(*(mask.needs for mask in self.masks))

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where every mask allows."""
        return reduce(torch.logical_and, (mask.allowed(grid) for mask in self.masks))

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return the least cover: empty if one is empty, full if all are full."""
        return reduce(torch.minimum, (mask.covers(tiling) for mask in self.masks))

    def __repr__(self) -> str:
        return " & ".join(map(_operand, self.masks))


@dataclass(frozen=True, repr=False)
class Or(Mask):
    """Allowed by any one of `masks`."""

    masks: tuple[Mask, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What any of the masks needs."""
        return frozenset().union(*(mask.needs for mask in self.masks))

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where any mask allows."""
        return reduce(torch.logical_or, (mask.allowed(grid) for mask in self.masks))

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return the greatest cover: full if one is full, empty if all are empty."""
        return reduce(torch.maximum, (mask.covers(tiling) for mask in self.masks))

    def __repr__(self) -> str:
        return " | ".join(map(_operand, self.masks))


@dataclass(frozen=True, repr=False)
class Not(Mask):
    """Allowed where `mask` forbids."""

    mask: Mask

    @property
    def needs(self) -> frozenset[str]:
        """What the mask needs."""
        return self.mask.needs

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the mask forbids."""
        return ~self.mask.allowed(grid)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return the opposite cover."""
        return Cover.FULL - self.mask.covers(tiling)

    def __repr__(self) -> str:
        return f"~{_operand(self.mask)}"


def check_count(mask: str, name: str, value: int, low: int = 1) -> None:
    """Refuse a parameter that is not a whole number in `[low, MAX_TOKENS]`."""
    if type(value) is not int or not low <= value <= MAX_TOKENS:
        raise AttentionError(
            f"{mask} got {name} {value!r}; it must be a whole number from {low} to 2**60. Change {name}."
        )


def require(mask: Mask, array: Tensor | None, name: str) -> Tensor:
    """Return an optional array, or say which mask misses it and what it is called in the plan."""
    if array is None:
        raise AttentionError(f"{mask!r} reads {name}, and the plan has None there. Set it, or drop the mask.")
    return array


def _parts(mask: Mask, kind: type[And | Or]) -> tuple[Mask, ...]:
    return mask.masks if isinstance(mask, kind) else (mask,)


def _operand(mask: Mask) -> str:
    return f"({mask!r})" if isinstance(mask, And | Or) else repr(mask)
