"""Lend memory for packed weights: zeroed, aligned, on huge pages where there are any. Knows no format."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from typing import final

from cynosure.core.errors import EnvironmentFault
from cynosure.kernels.library import kernels, why_none

ALIGNMENT = 64
SLAB = 64 << 20  # what an arena asks the system for; pages of it that nobody touches cost nothing


def give_back() -> None:
    """Give the system what was freed and kept for later."""
    kernels().c.cyn_trim()


@final
class Arena:
    """Memory handed out piece by piece; all of it is given back when the arena's last user goes."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self.num_bytes = 0
        self._pieces: list[tuple[int, int]] = []
        self._to_come: list[int] | None = None
        self._next = 0
        self._end = 0

    @classmethod
    def reserved(cls, sizes: Sequence[int]) -> Arena:
        """Lend pieces that have these sizes, in this order and side by side; they are filled before."""
        arena = cls()
        arena._grow(max(1, sum(sizes)))
        arena._to_come = list(reversed(sizes))
        return arena

    @property
    def is_filled(self) -> bool:
        """Whether pieces hold already what they are taken for."""
        return self._to_come is not None

    @property
    def num_left(self) -> int:
        """How many pieces of a filled arena nobody has taken."""
        return len(self._to_come or ())

    @property
    def sizes(self) -> tuple[int, ...]:
        """How long each piece is that was taken."""
        return tuple(size for _, size in self._pieces)

    @property
    def pieces(self) -> Iterator[memoryview]:
        """The bytes of each piece that was taken; valid while the arena lives."""
        for address, size in self._pieces:
            yield memoryview((ctypes.c_char * size).from_address(address)).cast("B")

    @property
    def reserve(self) -> memoryview:
        """The bytes of the pieces that nobody has taken, as one."""
        size = sum(self._to_come or ())
        return memoryview((ctypes.c_char * size).from_address(self._next)).cast("B")

    def take(self, num_bytes: int) -> int:
        """Return the address of `num_bytes` that nobody else has, aligned to 64.

        Raises:
            EnvironmentFault: there is not as much, or a filled arena holds something else.
        """
        padded = -(-max(1, num_bytes) // ALIGNMENT) * ALIGNMENT
        if self._to_come is not None and (not self._to_come or self._to_come.pop() != padded):
            raise EnvironmentFault("packed weights are not those of this model. Remove them.")
        if self._next + padded > self._end:
            self._grow(max(padded, SLAB))
        address = self._next
        self._next += padded
        self.num_bytes += padded
        self._pieces.append((address, padded))
        return address

    def _grow(self, size: int) -> None:
        library = kernels().c
        address = library.cyn_allocate(size)
        if not address:
            raise EnvironmentFault(
                f"{size / 2**20:.0f} MiB more of memory for packed weights are not to be had. Take a smaller "
                "model, or quantise it."
            )
        weakref.finalize(self, library.cyn_free, address, size)
        self._next, self._end = address, address + size


def prefer_huge_pages(address: int, num_bytes: int) -> None:
    """Wish for huge pages where memory lies that was not touched yet; without kernels, wish for nothing."""
    if not why_none():
        kernels().c.cyn_prefer_huge_pages(ctypes.c_void_p(address), ctypes.c_int64(num_bytes))
