"""Run a module's own tests with one of its files changed, in another process. Knows nothing of proposals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

#: A line may send a test round in circles.
MAX_SECONDS = 20.0


@dataclass(frozen=True)
class Changed:
    """A module with another text in one of its files, by the file's name below the library."""

    module: str
    path: str
    text: str


def passes(changed: Changed, library: Path, max_seconds: float = MAX_SECONDS) -> bool:
    """Whether the tests of a module pass; a copy of it comes first on the path, before the library."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        if (library / changed.module).is_dir():
            shutil.copytree(library / changed.module, copy / changed.module)
        (copy / changed.path).write_text(changed.text)
        command = [sys.executable, "-W", "ignore", "-m", "unittest", "-f", f"test.test_{changed.module}"]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, timeout=max_seconds, capture_output=True, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def all_pass(changes: list[Changed], library: Path, num_workers: int) -> list[bool]:
    """Whether the tests pass, for each; the same change is run once."""
    different = list(dict.fromkeys(changes))
    with ThreadPoolExecutor(num_workers) as pool:
        found = list(pool.map(lambda one: passes(one, library), different))
    known = dict(zip(different, found, strict=True))
    return [known[change] for change in changes]
