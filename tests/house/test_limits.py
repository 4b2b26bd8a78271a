"""The limits of the house hold in every file, and each rule is shown to catch what it is for."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import rules

# A file over the ceiling stands here with its reason.
LONG_FILES: dict[str, str] = {}

SOURCES = list(rules.files(".py", ".cpp", ".h", ".hpp", ".cu"))
MODULES = list(rules.files(".py", under=rules.PACKAGE))
TOP = rules.PACKAGE / "__init__.py"
BECAUSE = "Show the passages beca" + "use of these words."


def _name(path: Path) -> str:
    return str(path.relative_to(rules.ROOT))


def _room(path: Path) -> str:
    return path.relative_to(rules.PACKAGE).parts[0]


def _faults(paths: list[Path], rule: Callable[[str], list[str]]) -> list[str]:
    return [f"{_name(path)}: {fault}" for path in paths for fault in rule(path.read_text(encoding="utf-8"))]


def test_the_house_is_not_empty() -> None:
    """Without this, every check below could pass by looking at nothing."""
    assert len(MODULES) >= 20
    assert {"core", "attention", "models"} <= {_room(path) for path in MODULES}


def test_no_file_is_over_the_ceiling() -> None:
    assert not _faults([path for path in SOURCES if _name(path) not in LONG_FILES], rules.too_long)


def test_listed_exceptions_are_still_needed() -> None:
    assert all(rules.too_long((rules.ROOT / name).read_text()) and why for name, why in LONG_FILES.items())


def test_no_drawer_for_everything() -> None:
    assert not [
        f"{_name(path)}: {fault}"
        for path in SOURCES
        for fault in rules.bad_name(path.relative_to(rules.ROOT))
    ]


def test_every_module_states_its_boundary() -> None:
    assert not _faults(MODULES, rules.bad_docstring)


def test_inits_only_hand_names_on() -> None:
    inits = [path for path in MODULES if path.name == "__init__.py" and path != TOP]
    assert inits
    assert not _faults(inits, rules.bad_init)


def test_policy_sees_no_network_and_nobody_opens_a_pickle() -> None:
    assert not [
        f"{_name(path)}: {fault}"
        for path in MODULES
        for fault in rules.forbidden_imports(_room(path), path.read_text())
    ]


def test_no_dispatch_by_hasattr_and_no_evaluation_of_text() -> None:
    assert not _faults(MODULES, rules.forbidden_calls)


def test_no_limit_is_silenced() -> None:
    assert not _faults(SOURCES, rules.silenced_limits)


def test_one_loader_imports_optional_extras() -> None:
    """Late imports hide cycles: one file may have them, for packages that may be absent."""
    late = [_name(path) for path in MODULES if "PLC0415" in path.read_text()]
    assert len(late) <= 1, late


def test_nothing_names_a_machine_a_registry_or_its_making() -> None:
    texts = [path for path in rules.files(*rules.TEXT_SUFFIXES) if path.name != "LICENSE"]
    assert len(texts) > len(MODULES)
    assert not _faults(texts, rules.forbidden_text)


def test_no_reader_is_told_of_causes() -> None:
    rooms = ("cli", "server", "web", "insight", "retrieval")
    shown = [
        path for room in rooms for path in rules.files(".py", ".js", ".html", under=rules.PACKAGE / room)
    ]
    assert not _faults(shown, rules.claims_a_cause)


def test_tests_mirror_the_rooms() -> None:
    rooms = {_room(path) for path in MODULES if path != TOP}
    mirrored = {path.name for path in (rules.ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert rooms <= mirrored, "a room without tests"
    assert mirrored - rooms <= {"house", "browser"}, "tests of a room that does not exist"


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (rules.too_long, "x = 1\n" * 401, "x = 1\n\n\n" * 400),
        (rules.bad_docstring, "x = 1\n", '"""Add. Knows nothing of tensors."""\n'),
        (rules.bad_docstring, '"""Add numbers."""\n', '"""Add numbers. Reads no file.\n\nMore\n"""\n'),
        (rules.bad_docstring, '"""Add. Reads no\nfile."""\n', '"""Add. Opens nothing."""\n'),
        (rules.bad_init, "def f(): ...\n", '"""Doc."""\nfrom a import b\n__all__ = ["b"]\n'),
        (rules.bad_init, "CACHE = {}\n", "import a\n"),
        (rules.forbidden_calls, "hasattr(x, 'y')\n", "isinstance(x, Y)\n"),
        (rules.forbidden_calls, "torch.load('w')\n", "safetensors.torch.load_file('w')\n"),
        (rules.silenced_limits, "def f(): ...  # no" + "qa: PLR0913\n", "x = 1  # no" + "qa: E501\n"),
        (rules.silenced_limits, "# ruff: no" + "qa\n", "# ruff is the linter\n"),
        (rules.forbidden_text, "see /wor" + "k/main\n", "see https://example.org/work/main and src/work/\n"),
        (rules.forbidden_text, "pip --inde" + "x-url x\n", "an index of urls\n"),
        (rules.forbidden_text, "closes issu" + "e #12\n", "an issue with 12 heads\n"),
        (rules.forbidden_text, "in sessio" + "n 4 we\n", "the session holds 4 turns\n"),
        (rules.claims_a_cause, BECAUSE, "The words attended to."),
    ],
)
def test_each_rule_catches_its_sample(rule: Callable[[str], list[str]], bad: str, good: str) -> None:
    assert rule(bad)
    assert not rule(good)


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "managers", "base"])
def test_a_drawer_is_caught_as_file_and_as_folder(name: str) -> None:
    assert rules.bad_name(Path(f"src/cynosure/{name}.py"))
    assert rules.bad_name(Path(f"src/cynosure/{name}/page.py"))
    assert not rules.bad_name(Path(f"src/cynosure/{name}d_pages.py"))


@pytest.mark.parametrize(
    ("room", "text", "is_fault"),
    [
        ("retrieval", "import torch\n", True),
        ("insight", "from cynosure.models import load\n", True),
        ("insight", "def f():\n    import torch.nn\n", True),
        ("core", "from torch import nn\n", True),
        ("models", "import pickle\n", True),
        ("models", "import torch\n", False),
        ("retrieval", "import torchless\nfrom cynosure.core.errors import IndexFault\n", False),
    ],
)
def test_a_forbidden_import_is_caught(room: str, text: str, is_fault: bool) -> None:
    ast.parse(text)
    assert bool(rules.forbidden_imports(room, text)) is is_fault
