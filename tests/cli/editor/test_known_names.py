from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.editor import known_names as module
from cynosure.cli.editor.filling import Gap
from cynosure.cli.editor.known_names import known_names
from cynosure.cli.editor.module_names import ModuleNames
from cynosure.engine import constraints

CODE = "import shlex\nfrom .near import close_by\n\nwidth = 3\nprint(wid"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "__init__.py").write_text("")
    (tmp_path / "outer" / "near.py").write_text("def close_by(distance): ...\n")
    return tmp_path / "outer"


def test_the_file_its_imports_and_modules_are_known(package: Path) -> None:
    known = known_names(Gap(CODE, len(CODE)), package / "here.py", ModuleNames())
    assert known.num_left_out == 0
    assert {"width", "shlex", "quote", "comments", "near", "close_by", "distance", "textwrap"} <= {
        *known.names
    }
    assert {"wid", "Makefile", "__pycache__"}.isdisjoint(known.names)
    assert len(set(known.names)) == len(known.names)
    assert constraints.names(known.names, before=CODE).kind is constraints.ConstraintKind.NAMES


def test_the_root_of_a_package_is_looked_into_first(package: Path) -> None:
    text = "from outer.near import close_by\n"
    assert "distance" in known_names(Gap(text, 0), package / "here.py", ModuleNames()).names
    assert "distance" not in known_names(Gap(text, 0), None, ModuleNames()).names


def test_siblings_are_found_by_a_dot_alone(package: Path) -> None:
    text = "from . import near\n"
    assert "distance" in known_names(Gap(text, 0), package / "here.py", ModuleNames()).names
    assert "distance" not in known_names(Gap(text, 0), None, ModuleNames()).names


def test_names_of_the_file_are_left_out_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    known = known_names(Gap("a = b = c = 1\nimport os\n", 0), None, ModuleNames())
    assert set(known.names) <= {"a", "b", "c", "import", "os"}
    assert len(known.names) == 3
    assert known.num_left_out > 100


def test_as_many_are_asked_about_as_a_constraint_takes() -> None:
    assert module.MAX_NAMES == constraints.MAX_NAMES
