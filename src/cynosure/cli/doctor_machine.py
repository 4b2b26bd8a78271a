"""Look at the processor, the memory and the kernels compiled for them. Knows nothing of servers."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from cynosure.cli.finding import Finding, Weight
from cynosure.core.errors import UnknownOption
from cynosure.engine.pool.memory import memory_limit
from cynosure.engine.pool.settings import DEFAULT_MEMORY_SHARE
from cynosure.evaluate.results import describe_machine
from cynosure.kernels import kernels, why_none
from cynosure.kernels.encoder import why_no_encoders

MIN_PYTHON = (3, 11)
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_GIB = 1 << 30
_SMALL_GIB = 2


def machine() -> list[Finding]:
    """Python, torch, the processor, the memory."""
    about = describe_machine()
    features = about["features"]
    assert isinstance(features, list)
    is_new = sys.version_info >= MIN_PYTHON
    return [
        Finding(
            "python",
            f"{platform.python_version()} at {sys.executable}",
            Weight.FINE if is_new else Weight.BROKEN,
            "" if is_new else "Install 3.11 or later",
        ),
        Finding("torch", metadata.version("torch")),
        Finding("processor", f"{about['cpu']}, {about['cores']} cores, {about['ram_gib']} GiB"),
        Finding("instructions", ", ".join(features) or "none that are looked for"),
        memory(memory_limit()),
        huge_pages(HUGE_PAGES),
    ]


def memory(limit: int) -> Finding:
    """What models may use, where nobody says otherwise."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    whose = "the control group's limit" if limit < total else "all of the machine's"
    share = f"{DEFAULT_MEMORY_SHARE:.0%}"
    found = f"{limit / _GIB:.1f} GiB, {whose}; models take {share} at most, or what --memory says"
    if limit < _SMALL_GIB * _GIB:
        return Finding("memory", found, Weight.LESS, "Raise the limit: the server alone takes about 1 GiB")
    return Finding("memory", found)


def huge_pages(file: Path) -> Finding:
    """Whether weights may lie on pages of 2 MiB."""
    try:
        chosen = file.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return Finding("huge pages", "this system does not say; weights lie on small pages if it has none")
    if chosen in ("always", "madvise"):
        return Finding("huge pages", f"to be had ({chosen})")
    return Finding(
        "huge pages",
        f"turned off ({chosen or 'unknown'}), so that decoding is some percent slower",
        Weight.LESS,
        f"As root: echo madvise > {file}",
    )


def native_kernels(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Which variant of the CPU kernels runs; without any all works, and slower."""
    try:
        reason = why_none()
    except UnknownOption as fault:
        return [Finding("kernels", str(fault), Weight.BROKEN)]
    if reason:
        return [
            Finding(
                "kernels", f"none, torch computes everything, several times slower: {reason}", Weight.LESS
            )
        ]
    found = kernels()
    says = [Finding("kernels", f"{found.variant}, {found.num_threads} threads")]
    if reason := why_no_encoders():
        says.append(Finding("encoders", f"run layer by layer, not by one call: {reason}"))
    for rejected in found.rejected:
        name, _, why = rejected.partition(": ")
        # A processor lacks what it lacks; that is nothing to mend.
        is_mine = "which needs" in why
        weight = Weight.FINE if is_mine else Weight.LESS
        says.append(Finding(f"kernels for {name}", f"not used, {why.removeprefix('which ')}", weight))
    if "OMP_NUM_THREADS" in environ and "CYNOSURE_THREADS" not in environ:
        says.append(
            Finding(
                "threads", f"OMP_NUM_THREADS is {environ['OMP_NUM_THREADS']}, and kernels keep to it as well"
            )
        )
    return says
