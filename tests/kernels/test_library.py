"""The library opens with the best variant that runs here, or says why it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault, UnknownOption
from cynosure.kernels import kernels, why_none
from cynosure.kernels.library import LIBRARY, NONE, VARIANTS, interface_digest, open_kernels
from tests.house.rules import ROOT

needs_kernels = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_kernels
def test_the_best_variant_is_chosen_and_the_better_ones_are_explained() -> None:
    best = open_kernels(LIBRARY)
    assert len(best.rejected) == len(VARIANTS) - 1 - VARIANTS.index(best.variant)
    forced = open_kernels(LIBRARY, "portable")
    assert forced.variant == "portable"
    assert [reason.partition(":")[0] for reason in forced.rejected] == list(VARIANTS[1:])
    open_kernels(LIBRARY, kernels().variant)


@needs_kernels
def test_the_environment_forces_a_variant_and_the_threads() -> None:
    code = "from cynosure.kernels import kernels as k; print(k().variant, k().num_threads)"
    assert _python(code, CYNOSURE_ISA="portable", CYNOSURE_THREADS="3") == "portable 3"


@needs_kernels
def test_threads_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownOption, match="0 threads"):
        kernels().set_num_threads(0)


def test_kernels_can_be_turned_off() -> None:
    code = "from cynosure.kernels import why_none; print(why_none())"
    assert "turned off by CYNOSURE_ISA=none" in _python(code, CYNOSURE_ISA=NONE)


def test_an_unknown_variant_is_an_error() -> None:
    with pytest.raises(UnknownOption, match="'sse9'"):
        open_kernels(LIBRARY, "sse9")


def test_an_absent_library_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no native kernels were compiled"):
        open_kernels(tmp_path / "absent.so")


def test_a_damaged_library_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "damaged.so").write_bytes(b"not a library")
    with pytest.raises(EnvironmentFault, match="cannot be opened"):
        open_kernels(tmp_path / "damaged.so")


def test_other_headers_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "x_api.h").write_text("struct A { int a; };")
    before = interface_digest(tmp_path)
    (tmp_path / "x_api.h").write_text("struct A { long a; };")
    assert interface_digest(tmp_path) != before


def test_importing_takes_no_torch() -> None:
    code = "import sys, cynosure.kernels.linear, cynosure.kernels.attention; print('torch' in sys.modules)"
    assert _python(code) == "False"


def test_without_a_compiler_the_build_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "build_kernels.py"],
        cwd=ROOT,
        env={**os.environ, "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "no C++ compiler: looked for no-such-compiler" in done.stderr


@needs_kernels
def test_no_variant_can_lend_its_code_to_another() -> None:
    """A function that the linker may merge (weak) must belong to one variant by its namespace."""
    done = subprocess.run(["nm", "-C", str(LIBRARY)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip("nm is not installed")
    weak = [line.split(maxsplit=2)[2] for line in done.stdout.splitlines() if line[17:18] in "WVu"]
    assert not [
        name for name in weak if "cynosure::" in name and not any(f"::{v}::" in name for v in VARIANTS)
    ]
