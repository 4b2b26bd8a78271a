"""Take whole texts through an encoder by one call. Knows nothing of tensors or graphs.

The structs mirror `cpu/encoder_api.h`, which says what every field means and what is rounded.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

from cynosure.kernels.library import kernels, why_none
from cynosure.kernels.linear import CLinear

_ADDRESS, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double

WIDTH_UNIT = 32  # of channels: sizes are multiples of it
MAX_HEAD_DIM = 128


class PooledRows(IntEnum):
    """What is given of a text: all its rows, its first, their mean, its last."""

    ALL = 0
    FIRST = 1
    MEAN = 2
    LAST = 3


class CLayerNorm(ctypes.Structure):
    """`CynLayerNorm`."""

    _fields_ = (("weight", _ADDRESS), ("bias", _ADDRESS), ("eps", _FLOAT))


class CEncoderLayer(ctypes.Structure):
    """`CynEncoderLayer`."""

    _fields_ = (
        ("qkv", ctypes.POINTER(CLinear)),
        ("out", ctypes.POINTER(CLinear)),
        ("up", ctypes.POINTER(CLinear)),
        ("down", ctypes.POINTER(CLinear)),
        ("attention_norm", CLayerNorm),
        ("mlp_norm", CLayerNorm),
        ("cos", _ADDRESS),
        ("sin", _ADDRESS),
        ("window", _INT),
    )


class CEncoder(ctypes.Structure):
    """`CynEncoder`."""

    _fields_ = (
        ("hidden_size", _INT),
        ("num_heads", _INT),
        ("head_dim", _INT),
        ("intermediate_size", _INT),
        ("scale", _FLOAT),
        ("activation", _INT),
        ("is_pre_norm", _INT),
        ("tokens", _ADDRESS),
        ("positions", _ADDRESS),
        ("position_offset", _INT),
        ("types", _ADDRESS),
        ("embedding_norm", CLayerNorm),
        ("final_norm", CLayerNorm),
        ("distance_bias", _ADDRESS),
        ("max_distance", _INT),
        ("num_layers", _INT),
        ("layers", ctypes.POINTER(CEncoderLayer)),
    )


class CEncoderPass(ctypes.Structure):
    """`CynEncoderPass`."""

    _fields_ = (
        ("num_seqs", _INT),
        ("cu_seqlens", _ADDRESS),
        ("token_ids", _ADDRESS),
        ("type_ids", _ADDRESS),
        ("pooling", _INT),
        ("out", _ADDRESS),
    )


def why_no_encoders() -> str:
    """Say why encoders cannot run here as a whole; empty where they can."""
    if absent := why_none():
        return absent
    return "" if kernels().c.cyn_has_encoders() else f"the variant {kernels().variant!r} has no tiles"


def encode(encoder: CEncoder, texts: CEncoderPass) -> None:
    """Compute `texts`; all addresses must be alive, all ids in range."""
    kernels().c.cyn_encode(ctypes.byref(encoder), ctypes.byref(texts))


def struct_size() -> int:
    """Return the sum of the sizes of the library's own structs, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_encoder_structs
    size.restype = ctypes.c_int64
    return int(size())
