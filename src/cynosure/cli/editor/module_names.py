"""Tell which names a module defines, by reading its source. Runs no code that is not of Python itself."""

from __future__ import annotations

import ast
import importlib
import keyword
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

#: A larger source is a table more often than a program, and takes a second to read.
MAX_SOURCE_BYTES = 2_000_000
#: How often a name is followed that a module takes from another.
MAX_HOPS = 3
_SUFFIXES = (".py", ".pyi")
_MODULES = (*_SUFFIXES, ".so")
_CACHE = "__pycache__"


@dataclass(frozen=True)
class ModuleSource:
    """What one module's source says.

    - `names`: all that it binds, and what its classes and functions call their members and parameters.
    - `stars`: the modules all of whose names it takes; `modules`: those that it imports under a name.
    - `origins`: from which module a name comes that it takes from another; dots first where it is near.
    """

    names: frozenset[str]
    stars: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)


@dataclass
class ModuleNames:
    """Reads modules, each once as long as it is not changed.

    - `roots`: folders in which modules are looked for, in order; those of this interpreter.
    """

    roots: tuple[Path, ...] = field(default_factory=lambda: _folders(sys.path))
    _read: dict[Path, tuple[float, ModuleSource]] = field(default_factory=dict)

    def members(self, module: str, taken: Sequence[str] = (), near: Path | None = None) -> frozenset[str]:
        """The names that code may use of a module that it imports; none of a module that is not there.

        Args:
            module: its dotted name; the packages on the way are imported with it.
            taken: what is taken from it: where that comes from elsewhere, that is read too.
            near: a folder that is looked into first.
        """
        parts = module.split(".")
        found = set(parts)
        for length in range(1, len(parts) + 1):
            found |= self._of_module(".".join(parts[:length]), near, is_followed=length == len(parts))
        for name in taken:
            found |= self._of_taken(module, name, near, MAX_HOPS)
        return frozenset(found)

    @cached_property
    def importable(self) -> frozenset[str]:
        """The modules of the standard library, and the packages that are installed."""
        own = {name for name in sys.stdlib_module_names if not name.startswith("_")}
        installed = {path.name.partition(".")[0] for root in self.roots for path in _entries(root)}
        return frozenset(own | {name for name in installed if _is_public(name)})

    def _of_module(self, module: str, near: Path | None, *, is_followed: bool) -> set[str]:
        path = self._path(module, near)
        if path is None:
            return _of_extension(module)
        source = self._source(path)
        found = {*source.names, *_submodules(path)}
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        for star in source.stars:
            found |= self._of_module(_absolute(star, package), near, is_followed=False)
        if is_followed and module.partition(".")[0] in sys.stdlib_module_names:
            # `os.path` is the module that os imports as `path`.
            for other in source.modules:
                found |= self._of_module(other, near, is_followed=False)
        return found

    def _of_taken(self, module: str, name: str, near: Path | None, hops: int) -> set[str]:
        if self._path(f"{module}.{name}", near) is not None:
            return self._of_module(f"{module}.{name}", near, is_followed=False)
        path = self._path(module, near)
        if path is None or not hops:
            return set()
        origin = self._source(path).origins.get(name)
        if origin is None:
            return set()
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        source = _absolute(origin, package)
        if source == module:
            return set()
        return self._of_module(source, near, is_followed=False) | self._of_taken(source, name, near, hops - 1)

    def _path(self, module: str, near: Path | None) -> Path | None:
        """The source of a module; None where there is none that can be read."""
        if not module:
            return None
        inner = Path(*module.split("."))
        for root in (*([near] if near is not None else []), *self.roots):
            for suffix in _SUFFIXES:
                for path in (root / inner / f"__init__{suffix}", (root / inner).with_suffix(suffix)):
                    if path.is_file() and path.stat().st_size <= MAX_SOURCE_BYTES:
                        return path
        return None

    def _source(self, path: Path) -> ModuleSource:
        changed = path.stat().st_mtime
        known = self._read.get(path)
        if known is None or known[0] != changed:
            known = self._read[path] = (changed, read_source(path))
        return known[1]


def read_source(path: Path) -> ModuleSource:
    """What a file of Python defines; nothing where it is none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return ModuleSource(frozenset())
    names = {name for name in _bound(tree) if _is_public(name)}
    stars, modules, origins = [], [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names if _is_public(alias.asname or alias.name)]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            stars += [source for alias in node.names if alias.name == "*"]
            origins |= {alias.asname or alias.name: source for alias in node.names if alias.name != "*"}
    return ModuleSource(frozenset(names), tuple(stars), tuple(modules), origins)


def _bound(tree: ast.AST) -> Iterator[str]:
    """Names that module, classes and functions bind for others; a function's own are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            yield node.name
            yield from (one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs))
        elif isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
    yield from _assigned(tree)


def _assigned(scope: ast.AST) -> Iterator[str]:
    """Names that a module or a class assigns, functions in it apart."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        yield from _assigned(child)


def _of_extension(module: str) -> set[str]:
    """The names of a module of Python itself that has no source; any other is not imported."""
    if module in sys.builtin_module_names:
        return {name for name in dir(importlib.import_module(module)) if _is_public(name)}
    # Only where this interpreter keeps its own: a file of that name may lie anywhere.
    own = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    folder = Path(own, "lib-dynload")
    spec = PathFinder.find_spec(module, [str(folder)])
    if spec is None or spec.loader is None:
        return set()
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return {name for name in dir(loaded) if _is_public(name)}


def _absolute(module: str, package: str) -> str:
    """A module's full name, which a module of `package` may have written with dots."""
    level = len(module) - len(module.lstrip("."))
    if not level:
        return module
    above = package.split(".")
    near = above[: len(above) - level + 1]
    return ".".join(part for part in (*near, module[level:]) if part)


def _submodules(path: Path) -> set[str]:
    if path.stem != "__init__":
        return set()
    return {name for entry in _entries(path.parent) if _is_public(name := entry.name.partition(".")[0])}


def _entries(folder: Path) -> list[Path]:
    """Modules and packages in a folder."""
    try:
        return [
            one for one in folder.iterdir() if one.suffix in _MODULES or (not one.suffix and one.is_dir())
        ]
    except OSError:
        return []


def _is_public(name: str) -> bool:
    is_own = name.startswith("_") and not name.endswith("__")
    return name.isidentifier() and not is_own and not keyword.iskeyword(name) and name != _CACHE


def _folders(paths: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for one in paths if one and (path := Path(one)).is_dir())
