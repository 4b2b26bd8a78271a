"""Hand attention calls to the kernels. Knows nothing of tensors: callers pass addresses, and keep them alive.

The structs mirror `cpu/attention_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

from cynosure.kernels.library import kernels

TILE_KEYS = 128  # keys of a tile, and columns of a block of a map
MAX_APART = 1 << 24  # positions of a sequence lie nearer than this
EMPTY, FULL, FIRST_PARTIAL = 0, 1, 2  # covers of a map's blocks
NOT_WATCHED = -1  # in the table of watched rows


class Element(IntEnum):
    """What numbers are stored as."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    FLOAT16 = 4


_ADDRESS, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class CAttentionCall(ctypes.Structure):
    """`AttentionCall`."""

    _fields_ = (
        ("q", _ADDRESS),
        ("q_type", _INT),
        ("q_row_stride", _INT),
        ("q_head_stride", _INT),
        ("k", _ADDRESS),
        ("k_block_stride", _INT),
        ("k_head_stride", _INT),
        ("k_key_stride", _INT),
        ("v", _ADDRESS),
        ("v_block_stride", _INT),
        ("v_head_stride", _INT),
        ("v_key_stride", _INT),
        ("kv_type", _INT),
        ("block_size", _INT),
        ("k_scale", _ADDRESS),
        ("v_scale", _ADDRESS),
        ("out", _ADDRESS),
        ("lse", _ADDRESS),
        ("num_seqs", _INT),
        ("cu_q", _ADDRESS),
        ("cu_k", _ADDRESS),
        ("block_table", _ADDRESS),
        ("table_stride", _INT),
        ("first_rows", _ADDRESS),
        ("q_positions", _ADDRESS),
        ("k_positions", _ADDRESS),
        ("is_consecutive", _ADDRESS),
        ("num_heads", _INT),
        ("num_kv_heads", _INT),
        ("head_dim", _INT),
        ("v_head_dim", _INT),
        ("scale", _FLOAT),
        ("softcap", _FLOAT),
        ("train_length", _FLOAT),
        ("slopes", _ADDRESS),
        ("distance_bias", _ADDRESS),
        ("max_distance", _INT),
        ("key_bias", _ADDRESS),
        ("dense_bias", _ADDRESS),
        ("bias_head_stride", _INT),
        ("bias_row_stride", _INT),
        ("low", _ADDRESS),
        ("high", _ADDRESS),
        ("map_blocks", _ADDRESS),
        ("map_offsets", _ADDRESS),
        ("map_cells", _ADDRESS),
        ("map_rows", _INT),
        ("num_watched", _INT),
        ("watched_heads", _ADDRESS),
        ("num_segments", _INT),
        ("runs", _ADDRESS),
        ("run_offsets", _ADDRESS),
        ("mass", _ADDRESS),
        ("mean_score", _ADDRESS),
        ("max_logit", _ADDRESS),
        ("watched_rows", _ADDRESS),
        ("table_head_stride", _INT),
    )


def attend(call: CAttentionCall) -> None:
    """Compute `call`; its addresses must be alive."""
    kernels().c.cyn_attend(ctypes.byref(call))


def attend_plain(call: CAttentionCall) -> None:
    """Compute `call` by the scalar twin: one score after the other, in float64."""
    kernels().c.cyn_attend_plain(ctypes.byref(call))


def survey_positions(positions: int, cu_seqlens: int, num_seqs: int, is_consecutive: int) -> int:
    """Tell of each sequence whether its positions count up by one; return how far two are apart at most."""
    survey = kernels().c.cyn_survey_positions
    survey.restype = ctypes.c_int64
    return int(survey(_ADDRESS(positions), _ADDRESS(cu_seqlens), _INT(num_seqs), _ADDRESS(is_consecutive)))


def struct_size() -> int:
    """Return the size of the library's own struct, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_attention_call
    size.restype = ctypes.c_int64
    return int(size())
