"""Prepare a step in which every sequence gets one token, by one call. Knows nothing of tensors or graphs.

The structs mirror `cpu/decode_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes

from cynosure.kernels.library import kernels
from cynosure.kernels.linear import CLinear

_ADDRESS, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class CBound(ctypes.Structure):
    """`CynBound`."""

    _fields_ = (("window", _INT), ("chunk", _INT), ("low", _ADDRESS))


class CAngles(ctypes.Structure):
    """`CynAngles`."""

    _fields_ = (
        ("cos", _ADDRESS),
        ("sin", _ADDRESS),
        ("row_bytes", _INT),
        ("cos_rows", _ADDRESS),
        ("sin_rows", _ADDRESS),
    )


class CGroup(ctypes.Structure):
    """`CynGroup`."""

    _fields_ = (("page_of", _ADDRESS), ("block_table", _ADDRESS), ("slots", _ADDRESS))


class CDecodeStep(ctypes.Structure):
    """`CynDecodeStep`."""

    _fields_ = (
        ("num_seqs", _INT),
        ("token_ids", _ADDRESS),
        ("past_lens", _ADDRESS),
        ("block_table", _ADDRESS),
        ("table_stride", _INT),
        ("block_size", _INT),
        ("positions", _ADDRESS),
        ("slots", _ADDRESS),
        ("cu_k", _ADDRESS),
        ("num_groups", _INT),
        ("groups", ctypes.POINTER(CGroup)),
        ("num_bounds", _INT),
        ("bounds", ctypes.POINTER(CBound)),
        ("num_angles", _INT),
        ("angles", ctypes.POINTER(CAngles)),
        ("packed", ctypes.POINTER(CLinear)),
        ("unpacked", _ADDRESS),
        ("rows", _ADDRESS),
        ("hidden_size", _INT),
        ("x_type", _INT),
        ("multiplier", _FLOAT),
        ("x", _ADDRESS),
    )


def begin_decode(step: CDecodeStep) -> None:
    """Write what the program of `step` reads; its addresses must be alive, its numbers in range."""
    kernels().c.cyn_begin_decode(ctypes.byref(step))


def struct_size() -> int:
    """Return the size of the library's own struct, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_decode_step
    size.restype = ctypes.c_int64
    return int(size())
