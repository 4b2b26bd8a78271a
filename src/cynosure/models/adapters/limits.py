"""Bound what adapters may take. Knows nothing of tensors or files."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError


@dataclass(frozen=True)
class AdapterLimits:
    """What all adapters of a process may take together.

    - `max_adapters`: loaded at one time; those that requests under way still use do not count.
    - `max_rank`: of one low-rank pair.
    - `max_bytes`: of all pairs in memory, those that requests still use included.
    """

    max_adapters: int = 8
    max_rank: int = 64
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a number below 1.
        """
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name} of adapters is {value}; the limit is 1. Raise it.")
