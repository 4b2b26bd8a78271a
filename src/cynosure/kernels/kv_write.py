"""Rotate queries and keys, put keys and values into pages. Knows nothing of tensors or who owns a page.

The struct mirrors `cpu/kv_write_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes

from cynosure.kernels.library import kernels

MAX_HEAD_DIM = 1024

_ADDRESS, _INT = ctypes.c_void_p, ctypes.c_int64


class CKvWriteCall(ctypes.Structure):
    """`KvWriteCall`."""

    _fields_ = (
        ("num_tokens", _INT),
        ("type", _INT),
        ("q", _ADDRESS),
        ("num_heads", _INT),
        ("q_row_stride", _INT),
        ("q_head_stride", _INT),
        ("k", _ADDRESS),
        ("num_kv_heads", _INT),
        ("head_dim", _INT),
        ("k_row_stride", _INT),
        ("k_head_stride", _INT),
        ("v", _ADDRESS),
        ("v_head_dim", _INT),
        ("v_row_stride", _INT),
        ("v_head_stride", _INT),
        ("cos", _ADDRESS),
        ("sin", _ADDRESS),
        ("half", _INT),
        ("table_stride", _INT),
        ("is_interleaved", _INT),
        ("slots", _ADDRESS),
        ("block_size", _INT),
        ("page_type", _INT),
        ("k_pages", _ADDRESS),
        ("k_block_stride", _INT),
        ("k_page_head_stride", _INT),
        ("k_key_stride", _INT),
        ("v_pages", _ADDRESS),
        ("v_block_stride", _INT),
        ("v_page_head_stride", _INT),
        ("v_key_stride", _INT),
        ("k_scale", _ADDRESS),
        ("v_scale", _ADDRESS),
    )


def write(call: CKvWriteCall) -> None:
    """Rotate and write; the addresses of `call` must be alive, and its slots all different."""
    kernels().c.cyn_kv_write(ctypes.byref(call))


def struct_size() -> int:
    """Return the size of the library's own struct, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_kv_write_call
    size.restype = ctypes.c_int64
    return int(size())
