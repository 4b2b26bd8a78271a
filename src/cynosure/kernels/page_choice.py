"""Hand calls that choose pages to the kernels. Knows nothing of tensors: callers keep addresses alive.

The structs mirror `cpu/page_choice_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes

from cynosure.kernels.attention import CAttentionCall
from cynosure.kernels.library import kernels

_ADDRESS, _INT = ctypes.c_void_p, ctypes.c_int64


class CPageChoice(ctypes.Structure):
    """`PageChoice`."""

    _fields_ = (
        ("bounds", _ADDRESS),
        ("num_pages", _ADDRESS),
        ("num_first", _INT),
        ("num_last", _INT),
        ("is_checked", _ADDRESS),
        ("recalled", _ADDRESS),
    )


class CBoundsCall(ctypes.Structure):
    """`BoundsCall`."""

    _fields_ = (
        ("k", _ADDRESS),
        ("k_block_stride", _INT),
        ("k_head_stride", _INT),
        ("k_key_stride", _INT),
        ("k_type", _INT),
        ("k_scale", _ADDRESS),
        ("num_kv_heads", _INT),
        ("head_dim", _INT),
        ("block_size", _INT),
        ("num_blocks", _INT),
        ("blocks", _ADDRESS),
        ("bounds", _ADDRESS),
    )


def attend_to_pages(call: CAttentionCall, choice: CPageChoice) -> None:
    """Compute `call` over the pages that are chosen; all addresses must be alive."""
    kernels().c.cyn_attend_to_pages(ctypes.byref(call), ctypes.byref(choice))


def learn_bounds(call: CBoundsCall) -> None:
    """Write the bounds of a layer's pages; all addresses must be alive."""
    kernels().c.cyn_learn_bounds(ctypes.byref(call))


def struct_sizes() -> tuple[int, int]:
    """Return the sizes of the library's own structs, for a test of the mirrors."""
    library = kernels().c
    library.cyn_sizeof_page_choice.restype = library.cyn_sizeof_bounds_call.restype = ctypes.c_int64
    return int(library.cyn_sizeof_page_choice()), int(library.cyn_sizeof_bounds_call())
