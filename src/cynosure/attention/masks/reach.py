"""Say how far back a mask lets a query look. Knows nothing of caches."""

from __future__ import annotations

from cynosure.attention.masks.algebra import And, Mask, Or
from cynosure.attention.masks.positional import Chunk, Window


def reach(mask: Mask) -> int | None:
    """Return `n` where no query attends to a key `n` or more positions before it; `None` where one may.

    A bound that holds for certain, not always the least one.
    """
    if isinstance(mask, Window | Chunk):
        return mask.size
    if isinstance(mask, And):
        bounds = [bound for bound in map(reach, mask.masks) if bound is not None]
        return min(bounds, default=None)
    if isinstance(mask, Or):
        each = [reach(part) for part in mask.masks]
        bounds = [bound for bound in each if bound is not None]
        return max(bounds) if len(bounds) == len(each) else None
    return None
