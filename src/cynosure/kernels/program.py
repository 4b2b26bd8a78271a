"""Run the kernel calls of a pass in their order, by one call. Knows nothing of tensors or graphs.

The structs mirror `cpu/program_api.h`, which says what every field means. Between two calls nothing is
computed in Python, and the interpreter's lock is not taken: another thread cannot hold up a pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import final

from cynosure.kernels.attention import CAttentionCall
from cynosure.kernels.experts import CExpertsCall, PackedExperts
from cynosure.kernels.kv_write import CKvWriteCall
from cynosure.kernels.library import kernels
from cynosure.kernels.linear import CLinearCall, PackedLinear

_ADDRESS, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class Kind(IntEnum):
    """What a step of a program computes."""

    LINEAR = 0
    NORM = 1
    KV_WRITE = 2
    ATTEND = 3
    EXPERTS = 4


class CNormCall(ctypes.Structure):
    """`CynNormCall`."""

    _fields_ = (
        ("num_rows", _INT),
        ("num_parts", _INT),
        ("width", _INT),
        ("type", _INT),
        ("x", _ADDRESS),
        ("x_stride", _INT),
        ("norm", _INT),
        ("weight", _ADDRESS),
        ("bias", _ADDRESS),
        ("eps", _FLOAT),
        ("residual", _ADDRESS),
        ("residual_stride", _INT),
        ("out", _ADDRESS),
        ("out_stride", _INT),
    )


class CSeen(ctypes.Structure):
    """`CynSeen`."""

    _fields_ = (
        ("num_watched", _INT),
        ("watched_heads", _ADDRESS),
        ("mass", _ADDRESS),
        ("mean_score", _ADDRESS),
    )


class CPages(ctypes.Structure):
    """`CynPages`."""

    _fields_ = (
        ("k", _ADDRESS),
        ("v", _ADDRESS),
        ("k_scale", _ADDRESS),
        ("v_scale", _ADDRESS),
        ("seen", CSeen),
        ("choice", _ADDRESS),
    )


class CStep(ctypes.Structure):
    """`CynStep`."""

    _fields_ = (("kind", _INT), ("what", _ADDRESS), ("on", _ADDRESS), ("nanoseconds", _INT))


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a program, and what it is computed on: a matrix, experts, a layer's pages, or nothing."""

    call: CLinearCall | CNormCall | CKvWriteCall | CAttentionCall | CExpertsCall
    on: PackedLinear | PackedExperts | CPages | None = None

    @property
    def kind(self) -> Kind:
        """What is computed."""
        return _KINDS[type(self.call)]


_KINDS = {
    CLinearCall: Kind.LINEAR,
    CNormCall: Kind.NORM,
    CKvWriteCall: Kind.KV_WRITE,
    CAttentionCall: Kind.ATTEND,
    CExpertsCall: Kind.EXPERTS,
}


@final
class Program:
    """Steps whose calls may be changed between two runs; their addresses must be alive while it runs."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Keep the steps, and so their structs, alive."""
        self.steps = tuple(steps)
        self._structs = (CStep * len(self.steps))()
        for struct, step in zip(self._structs, self.steps, strict=True):
            on = step.on.struct if isinstance(step.on, PackedLinear | PackedExperts) else step.on
            struct.kind, struct.what = step.kind, ctypes.addressof(step.call)
            struct.on = None if on is None else ctypes.addressof(on)
        self._run = kernels().c.cyn_run_program

    def run(self, *, is_timed: bool = False) -> None:
        """Compute all steps; where it `is_timed`, `nanoseconds` then tells of each."""
        self._run(self._structs, _INT(len(self.steps)), _INT(is_timed))

    @property
    def nanoseconds(self) -> tuple[int, ...]:
        """What each step took in the last run that was timed."""
        return tuple(struct.nanoseconds for struct in self._structs)


def argmax(x: int, num_rows: int, num_columns: int, ids: int, highest: int) -> None:
    """Write where the largest float32 of each row stands, the first of equals, to int64 `ids`.

    The number itself goes to float32 `highest`; it is NaN where the row holds one.
    """
    assert num_columns > 0
    columns = _INT(num_columns)
    kernels().c.cyn_argmax(_ADDRESS(x), _INT(num_rows), columns, columns, _ADDRESS(ids), _ADDRESS(highest))


def struct_size() -> int:
    """Return the size of the library's own `CynNormCall`, for a test of the mirror."""
    size = kernels().c.cyn_sizeof_norm_call
    size.restype = ctypes.c_int64
    return int(size())
