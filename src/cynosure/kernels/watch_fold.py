"""Have the kernels fold what watched rows attended to. Knows nothing of tensors; callers keep arrays alive.

The struct mirrors `cpu/watch_fold_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes

from cynosure.kernels.library import kernels

_ADDRESS, _INT = ctypes.c_void_p, ctypes.c_int64


class CWatchFold(ctypes.Structure):
    """`WatchFold`."""

    _fields_ = (
        ("mass", _ADDRESS),
        ("mean_score", _ADDRESS),
        ("num_heads", _ADDRESS),
        ("num_layers", _INT),
        ("num_rows", _INT),
        ("num_segments", _INT),
        ("weights", _ADDRESS),
        ("num_folds", _ADDRESS),
        ("max_folds", _INT),
        ("shares", _ADDRESS),
        ("entropy", _ADDRESS),
    )


def fold_watched(call: CWatchFold) -> bool:
    """Fold every row; false where a head sees nothing. All addresses must be alive."""
    return bool(kernels().c.cyn_fold_watched(ctypes.byref(call)))


def struct_size() -> int:
    """Return the size of the library's own struct, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_watch_fold
    size.restype = ctypes.c_int64
    return int(size())
