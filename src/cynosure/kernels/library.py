"""Open the compiled kernels and choose their variant for this processor. Knows nothing of any kernel.

The variants are `portable`, `avx2`, `avx512` and `amx` (`cpu/isa.h`); the best one that the compiler knew and
the processor has is taken. `CYNOSURE_ISA` names another one, or `none`; `CYNOSURE_THREADS` sets the number of
threads, which else is `OMP_NUM_THREADS` or the cores lent to this process. `CYNOSURE_KERNELS` is the path of
another build, such as one that checks its addresses.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cynosure.core.errors import EnvironmentFault, UnknownOption

VARIANTS = ("portable", "avx2", "avx512", "amx")
NONE = "none"
FORCED_BY = "CYNOSURE_ISA"
ELSEWHERE = "CYNOSURE_KERNELS"
FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "libcynosure_cpu.so"
MAX_THREADS = 64


@dataclass(frozen=True, eq=False)
class Kernels:
    """The open library: call its functions through `c`.

    `variant` is the one in use, `rejected` says of each better one why it is not.
    """

    c: ctypes.CDLL
    variant: str
    rejected: tuple[str, ...]

    @property
    def num_threads(self) -> int:
        """How many threads share a call's work."""
        return int(self.c.cyn_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        """Share later calls out among so many threads.

        Raises:
            UnknownOption: fewer than one, or more than the pool holds.
        """
        if not 1 <= num_threads <= MAX_THREADS:
            raise UnknownOption(f"{num_threads} threads were asked for; take 1 to {MAX_THREADS}.")
        self.c.cyn_set_num_threads(num_threads)


@cache
def kernels() -> Kernels:
    """Return the kernels of this process.

    Raises:
        EnvironmentFault: there are none, or they were compiled from other sources.
        UnknownOption: `CYNOSURE_ISA` names no variant, or one that cannot run here.
    """
    path = Path(os.environ.get(ELSEWHERE, LIBRARY))
    return open_kernels(path, os.environ.get(FORCED_BY, ""))


def why_none() -> str:
    """Say why there are no kernels; empty where there are."""
    try:
        kernels()
    except EnvironmentFault as fault:
        return str(fault)
    return ""


def open_kernels(path: Path, asked: str = "") -> Kernels:
    """Open a library and take the variant `asked` for, or the best one."""
    if asked not in ("", NONE, *VARIANTS):
        raise UnknownOption(
            f"{FORCED_BY} is {asked!r}; it may be {', '.join(VARIANTS)}, or {NONE} to compute in torch."
        )
    if asked == NONE:
        raise EnvironmentFault(f"native kernels are turned off by {FORCED_BY}={NONE}")
    library = _open(path)
    hindrances = {name: _hindrance(library, level) for level, name in enumerate(VARIANTS)}
    if asked:
        if hindrances[asked]:
            raise UnknownOption(f"{FORCED_BY} is {asked!r}, {hindrances[asked]}. Take another, or unset it.")
        chosen = asked
    else:
        chosen = next(name for name in reversed(VARIANTS) if not hindrances[name])
    if not library.cyn_use_variant(VARIANTS.index(chosen)):
        raise EnvironmentFault(f"the kernels refuse their variant {chosen!r}. Run python build_kernels.py.")
    better = VARIANTS[VARIANTS.index(chosen) + 1 :]
    rejected = tuple(f"{name}: {hindrances[name] or f'{FORCED_BY} is {asked}'}" for name in better)
    return Kernels(library, chosen, rejected)


def interface_digest(folder: Path = FOLDER / "cpu") -> str:
    """Hash the headers that our structs must agree with, as `build_kernels.py` does."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*_api.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _open(path: Path) -> ctypes.CDLL:
    remedy = "Install a C++ compiler and run python build_kernels.py, or reinstall."
    if not path.is_file():
        raise EnvironmentFault(f"no native kernels were compiled at {path.name}. {remedy}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as fault:
        raise EnvironmentFault(f"the native kernels cannot be opened ({fault}). {remedy}") from fault
    library.cyn_interface.restype = ctypes.c_char_p
    library.cyn_missing.restype = ctypes.c_char_p
    library.cyn_allocate.restype = ctypes.c_void_p
    library.cyn_allocate.argtypes = (ctypes.c_int64,)
    library.cyn_free.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    if library.cyn_interface().decode() != interface_digest():
        raise EnvironmentFault("the native kernels were compiled from other headers. Run make kernels.")
    return library


def _hindrance(library: ctypes.CDLL, level: int) -> str:
    """Say why a variant cannot run; empty where it can."""
    if not library.cyn_is_compiled(level):
        return "not known to the compiler that built the kernels"
    missing = library.cyn_missing(level).decode()
    return f"which needs {missing}" if missing else ""
