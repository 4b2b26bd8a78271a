"""The package stays light: few dependencies, a build without torch, imports that cost milliseconds."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

import cynosure
from tests.house.rules import PACKAGE, ROOT, files, imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _package(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement)[0]


NAMES = [_package(line) for line in PROJECT["project"]["dependencies"]]

# What `make serve` installs; the rest of the extras is for those who develop.
SERVED = ["server", "retrieval", "constraints"]
# What `cynosure lsp` says is missing where it is.
FOR_EDITORS = ["lsp"]
BORROWED = ["transformers"]

# What the command, the server and the policies import before any model is asked for.
TORCH_FREE = [
    "cynosure",
    "cynosure.core.errors",
    "cynosure.cli.main",
    "cynosure.evaluate",
    "cynosure.retrieval",
    "cynosure.insight",
    "cynosure.guard",
    "cynosure.engine",
    "cynosure.server.app",
    "cynosure.server.listening",
    "cynosure.models.text.tokenizer",
    "cynosure.models.chat.template",
]


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_base_is_ten_packages_at_most() -> None:
    assert len(NAMES) <= 10, NAMES
    assert len(set(NAMES)) == len(NAMES)


def test_torch_is_held_to_the_range_its_cpu_wheel_resolves_in() -> None:
    assert "torch>=2.13,<2.14" in PROJECT["project"]["dependencies"]
    assert '"torch>=2.13,<2.14"' in (ROOT / "Makefile").read_text()


def test_building_needs_no_torch() -> None:
    assert [_package(line) for line in PROJECT["build-system"]["requires"]] == ["hatchling"]


def test_the_oracle_is_of_tests_and_of_the_room_that_watches_it_alone() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    homes = [name for name, lines in extras.items() if any(line.startswith("transformers") for line in lines)]
    assert homes == ["transformers", "test"]
    assert "transformers" not in NAMES
    uses = {
        path.relative_to(PACKAGE).parts[0]
        for path in files(".py", under=PACKAGE)
        if any(module.split(".")[0] == "transformers" for _, module in imports(path.read_text()))
    }
    assert uses == {"borrowed"}


def undeclared(texts: Iterable[str]) -> set[str]:
    """Imported packages that an installation of the base and what serves does not hold by name."""
    extras = PROJECT["project"]["optional-dependencies"]
    declared = {
        *NAMES,
        *(_package(line) for extra in (*SERVED, *FOR_EDITORS, *BORROWED) for line in extras[extra]),
    }
    imported = {module.split(".")[0] for text in texts for _, module in imports(text)}
    return imported - sys.stdlib_module_names - {"cynosure"} - {name.replace("-", "_") for name in declared}


def test_every_imported_package_is_declared() -> None:
    """A package that only comes along with another one goes away with it."""
    assert not undeclared(path.read_text() for path in files(".py", under=PACKAGE))
    assert undeclared(["import httpx\nimport torch.nn\nfrom json import loads\n"]) == {"httpx"}


def test_every_base_dependency_is_used() -> None:
    source = "\n".join(path.read_text() for path in files(".py", under=PACKAGE))
    unused = [name for name in NAMES if not re.search(rf"^\s*(?:import|from) {name}\b", source, re.MULTILINE)]
    assert not unused


def test_the_version_is_said_once_in_two_places() -> None:
    assert cynosure.__version__ == PROJECT["project"]["version"]


def test_lazy_names_agree_with_each_other() -> None:
    assert sorted(cynosure.__all__) == sorted(cynosure._HOMES) == cynosure.__all__
    assert set(cynosure.__all__) <= set(dir(cynosure))


@pytest.mark.parametrize("name", cynosure.__all__)
def test_every_lazy_name_resolves(name: str) -> None:
    assert getattr(cynosure, name) is getattr(importlib.import_module(cynosure._HOMES[name]), name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="it hands on AttentionSpec"):
        cynosure.attention_please  # noqa: B018


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_takes_no_torch(module: str) -> None:
    assert _run(f"import sys, {module}; print('torch' in sys.modules)") == "False"


def test_the_check_for_torch_can_fail() -> None:
    """The positive control: it does see torch where torch is imported."""
    assert _run("import sys, cynosure.models.checkpoint; print('torch' in sys.modules)") == "True"


def test_importing_cynosure_is_fast() -> None:
    """Best of five, since a shared machine only ever adds time."""
    code = "from time import perf_counter as t; a = t(); import cynosure; print(t() - a)"
    assert min(float(_run(code)) for _ in range(5)) < 0.2


def test_an_import_against_the_direction_fails_the_check(tmp_path: Path) -> None:
    """The positive control of `lint-imports`: one upward import in a copy of the house is found."""
    shutil.copytree(PACKAGE, tmp_path / "cynosure", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    linter = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]

    def broken() -> str:
        done = subprocess.run(linter, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        return "" if done.returncode == 0 else done.stdout

    assert not broken(), broken()
    errors = tmp_path / "cynosure" / "core" / "errors.py"
    errors.write_text(errors.read_text() + "\n\ndef late() -> None:\n    import cynosure.evaluate.results\n")
    assert "cynosure.core.errors -> cynosure.evaluate.results" in broken()
