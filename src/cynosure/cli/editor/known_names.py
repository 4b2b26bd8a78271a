"""Collect the names that code may use: those of its file, and of what that imports. Runs no code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cynosure.cli.editor.filling import Gap
from cynosure.cli.editor.module_names import ModuleNames
from cynosure.cli.editor.python_code import Import, blanked, imports_in, names_in, without_begun
from cynosure.engine.constraints import MAX_NAMES

PYTHON_SUFFIXES = frozenset({".py", ".pyi", ".pyw"})


@dataclass(frozen=True)
class Known:
    """Names, and how many more there are than may be asked about."""

    names: tuple[str, ...]
    num_left_out: int = 0


def known_names(gap: Gap, file: Path | None, modules: ModuleNames) -> Known:
    """The names for a gap in a Python file.

    Names of the file come first, then those of each module as it is imported, then modules by their own
    names; where there are more than a constraint takes, the last are left out, and counted.

    Args:
        gap: the place.
        file: where the text lies, for modules that are near; None for a text that is nowhere.
        modules: reads what is imported.
    """
    code = blanked(without_begun(gap.prefix, gap.suffix))
    found = dict.fromkeys(sorted(names_in(code)))
    folder = None if file is None else file.parent
    for one in imports_in(code):
        found |= dict.fromkeys(sorted(_members(one, folder, modules)))
    found |= dict.fromkeys(sorted(modules.importable))
    names = [name for name in found if name.isidentifier()]
    return Known(tuple(names[:MAX_NAMES]), max(0, len(names) - MAX_NAMES))


def _members(one: Import, folder: Path | None, modules: ModuleNames) -> frozenset[str]:
    if not one.level:
        return modules.members(one.module, one.taken, _root_of(folder))
    if folder is None:
        return frozenset()
    package = folder
    for _ in range(one.level - 1):
        package = package.parent
    if one.module:
        return modules.members(one.module, one.taken, package)
    # `from . import sibling`
    return frozenset().union(*(modules.members(name, (), package) for name in one.taken))


def _root_of(folder: Path | None) -> Path | None:
    """The folder that holds the package of a file."""
    while folder is not None and (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder
