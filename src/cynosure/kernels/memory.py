"""Lend memory for packed weights: zeroed, aligned, on huge pages where there are any. Knows no format."""

from __future__ import annotations

import weakref
from typing import final

from cynosure.core.errors import EnvironmentFault
from cynosure.kernels.library import kernels

ALIGNMENT = 64
SLAB = 64 << 20  # what an arena asks the system for; pages of it that nobody touches cost nothing


@final
class Arena:
    """Memory handed out piece by piece; all of it is given back when the arena's last user goes."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self.num_bytes = 0
        self._next = 0
        self._end = 0

    def take(self, num_bytes: int) -> int:
        """Return the address of `num_bytes` that nobody else has, aligned to 64.

        Raises:
            EnvironmentFault: there is not as much.
        """
        padded = -(-max(1, num_bytes) // ALIGNMENT) * ALIGNMENT
        if self._next + padded > self._end:
            self._grow(max(padded, SLAB))
        address = self._next
        self._next += padded
        self.num_bytes += padded
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
