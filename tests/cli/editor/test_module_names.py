from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cynosure.cli.editor.module_names import ModuleNames, read_source

TRAP = "raise SystemExit('this was run')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "plain.py": (
            "import json as j\nLIMIT = 1\n_hidden = 2\nfor each in (): pass\n"
            "def f(given, *, named=1):\n    local = 1\n    return lambda inner: local\n"
            "class Shape:\n    sides: int\n    def area(self):\n        self.width = 1\n"
        ),
        "star.py": f"from plain import *\n{TRAP}",
        "package/__init__.py": "from .inner import Deep\nfrom package.inner import deeper as renamed\n",
        "package/inner.py": "class Deep:\n    def dive(self): ...\ndef deeper(by): ...\n",
        "package/far.py": "from package.middle import Deepest\n",
        "package/middle.py": "from .deepest import Deepest\n",
        "package/deepest.py": "class Deepest:\n    def sink(self): ...\n",
        "package/beside.pyi": "def stubbed(x): ...\n",
        "broken.py": "def (:\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder: Path, module: str, *taken: str) -> frozenset[str]:
    return ModuleNames((folder,)).members(module, taken)


def test_a_module_tells_what_it_binds_for_others(folder: Path) -> None:
    found = names(folder, "plain")
    assert {"plain", "j", "LIMIT", "each", "f", "given", "named", "Shape", "sides", "area", "width"} <= found
    assert found.isdisjoint({"local", "_hidden", "inner"})


def test_stars_are_followed_and_nothing_is_run(folder: Path) -> None:
    assert {"LIMIT", "Shape"} <= names(folder, "star")
    with pytest.raises(SystemExit, match="this was run"):
        exec(compile((folder / "star.py").read_text().split("\n")[1], "star.py", "exec"))


def test_packages_on_the_way_and_modules_beside_are_known(folder: Path) -> None:
    found = names(folder, "package.inner")
    assert {"package", "inner", "beside", "Deep", "dive", "deeper", "by"} <= found
    assert "stubbed" not in found
    assert {"stubbed", "x"} <= names(folder, "package.beside")


def test_a_taken_name_brings_what_it_has_where_it_comes_from(folder: Path) -> None:
    assert "dive" not in names(folder, "package")
    assert "dive" in names(folder, "package", "Deep")
    assert "dive" in names(folder, "package", "inner")
    assert "sink" not in names(folder, "package.far")
    assert "sink" in names(folder, "package.far", "Deepest")


@pytest.mark.parametrize("module", ["absent", "broken", "absent.deeper"])
def test_what_can_not_be_read_has_its_own_name_only(folder: Path, module: str) -> None:
    assert names(folder, module) == set(module.split("."))


def test_a_module_that_changed_is_read_again(folder: Path) -> None:
    modules = ModuleNames((folder,))
    assert "later" not in modules.members("plain")
    (folder / "plain.py").write_text("later = 1\n")
    os.utime(folder / "plain.py", (1, 1))
    assert "later" in modules.members("plain")


def test_the_library_is_known_with_and_without_source() -> None:
    modules = ModuleNames()
    assert {"join", "splitext", "environ", "getcwd"} <= modules.members("os")
    assert {"islice", "chain"} <= modules.members("itertools")
    assert {"sqrt", "tau"} <= modules.members("math")
    assert {"Path", "read_text", "encoding"} <= modules.members("pathlib", ("Path",))
    assert {"os", "textwrap", "pytest"} <= modules.importable


def test_an_extension_is_only_taken_from_where_python_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_ctypes_test_not_here.py").write_text(TRAP)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert ModuleNames(()).members("_ctypes_test_not_here") == {"_ctypes_test_not_here"}


def test_a_file_of_no_python_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_bytes(b"\xff\xfe\x00")
    assert read_source(tmp_path / "odd.py").names == frozenset()
