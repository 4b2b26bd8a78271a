"""Compile the CPU kernels into one library with a variant per instruction set. Knows nothing of Python's ABI.

    python build_kernels.py [--sanitize] [--out FILE]

The build of the package calls `build` too (`hatch_build.py`). What it needs is a C++17 compiler, taken
from $CXX or found as c++, g++ or clang++. Where there is none the package installs without kernels: torch
computes everything, and `cynosure doctor` says what is lost.

Files named `*_kernels.cpp` are compiled once per variant (see `cpu/isa.h`), the others once. An object is
kept under `build/kernels` by the hash of all that shaped it, so that a second build compiles what changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent
KERNELS = ROOT / "src" / "cynosure" / "kernels"
SOURCES = KERNELS / "cpu"
LIBRARY = KERNELS / "libcynosure_cpu.so"
OBJECTS = ROOT / "build" / "kernels"

# GCC 12 warns of its own intrinsics being uninitialised.
QUIET = ("-Wno-maybe-uninitialized", "-Wno-uninitialized")
FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=off", "-pthread",
    "-Wall", "-Wextra", *QUIET,
)  # fmt: skip
SANITIZE = (
    "-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-DCYN_SANITIZED",
)  # fmt: skip

AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mavx512bf16")
AMX = (*AVX512, "-mavx512vbmi", "-mamx-tile", "-mamx-int8", "-mamx-bf16")


@dataclass(frozen=True)
class Variant:
    """One instruction set: its namespace, its number in `isa.h` and the compiler's flags for it."""

    name: str
    level: int
    flags: tuple[str, ...]


PORTABLE = Variant("portable", 0, ())
X86_VARIANTS = (Variant("avx2", 1, AVX2), Variant("avx512", 2, AVX512), Variant("amx", 3, AMX))


class BuildFailed(Exception):
    """There is no compiler, or it refused our sources."""


def find_compiler() -> str:
    """Return the C++ compiler: $CXX, or the first that is installed."""
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        if shutil.which(name):
            return name
    raise BuildFailed(
        f"no C++ compiler: looked for {asked or 'c++, g++ and clang++'}. Install g++ 12 or clang 14."
    )


def usable_variants(compiler: str) -> tuple[Variant, ...]:
    """Return the portable variant and those whose flags the compiler knows."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return (PORTABLE,)
    empty = ["-x", "c++", "-c", os.devnull, "-o", os.devnull]
    known = [
        v
        for v in X86_VARIANTS
        if subprocess.run([compiler, *v.flags, *empty], capture_output=True).returncode == 0
    ]
    return (PORTABLE, *known)


def interface_digest(folder: Path = SOURCES) -> str:
    """Hash the headers that callers' structs must agree with; the loader refuses a library of other ones."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*_api.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(library: Path = LIBRARY, *, is_sanitized: bool = False) -> str:
    """Compile and link; return one line that says what was done.

    Raises:
        BuildFailed: with the compiler's own words.
    """
    compiler = find_compiler()
    variants = usable_variants(compiler)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    flags = (*FLAGS, *(SANITIZE if is_sanitized else ()))
    has = tuple(f"-DCYN_HAS_{variant.name.upper()}" for variant in variants)
    once = (*has, f'-DCYN_INTERFACE="{interface_digest()}"')
    jobs: list[tuple[Path, tuple[str, ...]]] = []
    for source in sorted(SOURCES.glob("*.cpp")):
        if not source.stem.endswith("_kernels"):
            jobs.append((source, (*flags, *once)))
            continue
        for variant in variants:
            shape = (f"-DCYN_VARIANT={variant.name}", f"-DCYN_LEVEL={variant.level}")
            jobs.append((source, (*flags, *variant.flags, *shape)))
    headers = b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.h")))
    OBJECTS.mkdir(parents=True, exist_ok=True)
    library.parent.mkdir(parents=True, exist_ok=True)

    def compiled(job: tuple[Path, tuple[str, ...]]) -> Path:
        source, arguments = job
        made_of = [version.encode(), " ".join(arguments).encode(), headers, source.read_bytes()]
        target = OBJECTS / f"{source.stem}-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:16]}.o"
        if not target.exists():
            scratch = target.with_suffix(f".{os.getpid()}.part")
            _run([compiler, *arguments, "-c", str(source), "-o", str(scratch)])
            scratch.replace(target)
        return target

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        objects = list(threads.map(compiled, jobs))
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".kernels-") as scratch:
        # Replaced whole: a process that has the old library open keeps it.
        linked = Path(scratch) / library.name
        _run([compiler, "-shared", *flags, *map(str, objects), "-o", str(linked)])
        linked.replace(library)
    _forget_objects(keep={*objects})
    return f"{library.name}: {', '.join(variant.name for variant in variants)}, by {version.splitlines()[0]}"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        sys.stderr.write(done.stderr)


def _forget_objects(keep: set[Path], max_kept: int = 400) -> None:
    """Drop the oldest objects that no longer belong to anything."""
    kept = sorted(OBJECTS.glob("*.o"), key=lambda path: path.stat().st_mtime)
    for path in [path for path in kept if path not in keep][: max(0, len(kept) - max_kept)]:
        path.unlink(missing_ok=True)


def main() -> None:
    """Build in the source tree, as an editable installation uses it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", action="store_true", help="check addresses and undefined behaviour")
    parser.add_argument("--out", type=Path, default=LIBRARY, help="the library to write")
    arguments = parser.parse_args()
    try:
        sys.stdout.write(build(arguments.out, is_sanitized=arguments.sanitize) + "\n")
    except BuildFailed as fault:
        sys.exit(f"no CPU kernels: {fault}")


if __name__ == "__main__":
    main()
