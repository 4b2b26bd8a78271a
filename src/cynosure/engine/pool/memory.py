"""Tell how much memory this process may use, and hand freed memory back. Knows nothing of models."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_limit(files: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """Bytes of the machine, or of the control group that this process is in, whichever is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit in map(_limit_in, files) if limit is not None)])


def give_back() -> None:
    """Return what was freed to the system: the allocator would keep it for later."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        try:
            trim = libc.malloc_trim
        except AttributeError:
            # Another C library than GNU's; it gives memory back in its own time.
            return
        trim(0)


def _limit_in(file: Path) -> int | None:
    """What a control group's file says; `max`, or none at all, is no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
