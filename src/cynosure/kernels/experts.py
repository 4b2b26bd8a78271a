"""Run a mixture of experts by one call. Knows nothing of tensors: callers keep addresses alive.

The structs mirror `cpu/experts_api.h`, which says what every field means.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import final

from cynosure.kernels.library import kernels
from cynosure.kernels.linear import CLinear, PackedLinear

_ADDRESS, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class Router(IntEnum):
    """How a row chooses its experts."""

    TOP = 0
    SOFTMAX = 1
    GROUPS = 2


class CRouting(ctypes.Structure):
    """`CynRouting`."""

    _fields_ = (
        ("kind", _INT),
        ("num_experts", _INT),
        ("num_chosen", _INT),
        ("num_groups", _INT),
        ("num_chosen_groups", _INT),
        ("is_normalised", _INT),
        ("scale", _FLOAT),
        ("correction", _ADDRESS),
    )


class CExperts(ctypes.Structure):
    """`CynExperts`."""

    _fields_ = (("inner", ctypes.POINTER(CLinear)), ("down", ctypes.POINTER(CLinear)))


class CExpertsCall(ctypes.Structure):
    """`CynExpertsCall`."""

    _fields_ = (
        ("num_rows", _INT),
        ("way", _INT),
        ("x", _ADDRESS),
        ("type", _INT),
        ("x_stride", _INT),
        ("norm", _INT),
        ("norm_weight", _ADDRESS),
        ("norm_bias", _ADDRESS),
        ("norm_eps", _FLOAT),
        ("activation", _INT),
        ("routing", CRouting),
        ("logits", _ADDRESS),
        ("shared", _ADDRESS),
        ("shared_stride", _INT),
        ("shared_gate", _ADDRESS),
        ("residual", _ADDRESS),
        ("residual_stride", _INT),
        ("out", _ADDRESS),
        ("out_stride", _INT),
        ("chosen", _ADDRESS),
        ("weights", _ADDRESS),
    )


@final
class PackedExperts:
    """The matrices of experts that are alike, as one call reads them."""

    def __init__(self, inner: Sequence[PackedLinear], down: Sequence[PackedLinear]) -> None:
        """Take each expert's first matrix and its second; all first ones are alike, and all second ones."""
        assert len(inner) == len(down) > 0
        assert len({one.shape for one in inner}) == len({one.shape for one in down}) == 1
        assert inner[0].shape.num_outputs == down[0].shape.num_columns
        self._alive = (*inner, *down)
        self._inner = (CLinear * len(inner))(*(one.struct for one in inner))
        self._down = (CLinear * len(down))(*(one.struct for one in down))
        self.struct = CExperts(self._inner, self._down)

    def run(self, call: CExpertsCall) -> None:
        """Compute `call`; its addresses must be alive."""
        assert call.routing.num_experts == len(self._inner)
        kernels().c.cyn_experts(ctypes.byref(self.struct), ctypes.byref(call))


def struct_size() -> int:
    """Return the size of the library's own `CynExpertsCall`, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_experts_call
    size.restype = ctypes.c_int64
    return int(size())
