"""The pool has no data race that a checker of threads finds, with callers at once and a changing number."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "cynosure" / "kernels" / "cpu"
COMPILER = os.environ.get("CXX") or next(
    (name for name in ("c++", "g++", "clang++") if shutil.which(name)), ""
)

pytestmark = pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pool and its callers, compiled for the checker."""
    built = tmp_path_factory.mktemp("races") / "pool_races"
    sources = [Path(__file__).with_name("pool_races.cpp"), SOURCES / "pool.cpp"]
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-pthread", f"-I{SOURCES}"]
    done = subprocess.run(
        [COMPILER, *flags, *map(str, sources), "-o", str(built)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"{COMPILER} builds nothing for the checker: {done.stderr[-200:]}")
    return built


def run(*command: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the checker can't run where addresses are spread as widely as here")
    return done


def test_callers_at_once_race_for_nothing(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0, done.stderr[:4000]
    assert done.stdout.strip() == "right"


def test_a_planted_race_is_found(program: Path) -> None:
    """The positive control: tasks that all write to one place."""
    assert "data race" in run(program, "planted").stderr
