"""Choose lines of held-out modules to be masked, and compare proposals with them. Knows no proposer.

Half of the lines are masked behind their indentation, as when a new line is begun; the others behind some of
their tokens, as when one is typed. Comments, docstrings and lines of under eight characters are not chosen.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import importlib
import io
import keyword
import random
import re
import tokenize
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULES = Path(__file__).parent / "data" / "code_heldout_modules.txt"
MIN_CHARS = 8
SEED = 20261122

_WORD = re.compile(r"\w+|[^\w\s]")
_STRING = re.compile(r"""[rbfuRBFU]{0,2}("[^"\n]*"?|'[^'\n]*'?)|#.*""")
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Masked:
    """A file with one line's end missing; `line` is what stood there."""

    module: str
    path: str
    number: int
    prefix: str
    line: str
    suffix: str
    is_whole: bool

    @property
    def typed(self) -> str:
        """What stands of the line before the gap."""
        return self.prefix.rpartition("\n")[2]

    def filled(self, proposal: str) -> str:
        """The file with a proposal in the gap."""
        return f"{self.prefix}{proposal}{self.suffix}"


def held_out_modules() -> list[str]:
    """The names of the modules, sorted."""
    return MODULES.read_text().split()


def module_files(library: Path, module: str) -> list[Path]:
    """The sources of a module, its tests apart."""
    single = library / f"{module}.py"
    return [single] if single.is_file() else sorted((library / module).glob("*.py"))


def masked_lines(library: Path, count: int, seed: int = SEED) -> list[Masked]:
    """Draw lines of all held-out modules, each module as often as the others as far as it has lines."""
    dice = random.Random(seed)
    pools: dict[str, list[tuple[Path, int]]] = {}
    for module in held_out_modules():
        pools[module] = [
            (path, number)
            for path in module_files(library, module)
            for number in code_lines(path.read_text())
        ]
        dice.shuffle(pools[module])
    chosen: list[Masked] = []
    while len(chosen) < count and any(pools.values()):
        for module, pool in pools.items():
            if pool and len(chosen) < count:
                path, number = pool.pop()
                chosen.append(mask(library, module, path, number, len(chosen) % 2 == 0, dice))
    return chosen


def mask(library: Path, module: str, path: Path, number: int, is_whole: bool, dice: random.Random) -> Masked:
    """Take a line out of a file, or what follows some of its tokens."""
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    line = lines[number].rstrip("\r\n")
    start = len(line) - len(line.lstrip())
    if not is_whole:
        ends = [match.end() for match in _WORD.finditer(line)][:-1]
        start = dice.choice(ends) if ends else start
    before = sum(map(len, lines[:number])) + start
    behind = sum(map(len, lines[:number])) + len(line)
    name = path.relative_to(library).as_posix()
    return Masked(module, name, number + 1, text[:before], line[start:], text[behind:], is_whole)


def code_lines(text: str) -> list[int]:
    """Numbers, from 0, of lines that hold code enough and are no part of a docstring or of a comment."""
    prose: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_long = token.type == tokenize.STRING and token.start[0] != token.end[0]
        if is_long:
            prose.update(range(token.start[0] - 1, token.end[0]))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.update(range(node.lineno - 1, (node.end_lineno or node.lineno)))
    found = []
    for number, line in enumerate(text.splitlines()):
        stripped = line.strip()
        if len(stripped) >= MIN_CHARS and not stripped.startswith("#") and number not in prose:
            found.append(number)
    return found


def edit_similarity(proposal: str, line: str) -> float:
    """How much of two texts is the same, by difflib's ratio over characters; 1 where they are equal."""
    return difflib.SequenceMatcher(None, proposal.strip(), line.strip(), autojunk=False).ratio()


def existing_names(masked: Masked) -> frozenset[str]:
    """The names of the rest of the file, of builtins and their types, and of modules that it imports."""
    rest = masked.prefix + masked.suffix
    names = set(_NAME.findall(rest)) | set(keyword.kwlist) | _builtin_names()
    for module in imported_modules(rest):
        names |= _members(f"{masked.module}{module}" if module.startswith(".") else module)
    return frozenset(names)


def imported_modules(text: str) -> list[str]:
    """The modules that the import statements of a text name, whether it parses or not."""
    found = re.findall(r"^\s*from\s+([\w.]+)\s+import\b", text, re.MULTILINE)
    for listed in re.findall(r"^\s*import\s+([^\n#;]+)", text, re.MULTILINE):
        found += [part.split()[0] for part in listed.split(",") if part.split()]
    return found


def name_share(proposal: str, known: frozenset[str]) -> float | None:
    """The share of a proposal's names that exist, strings and comments apart; None where it has none."""
    names = _NAME.findall(_STRING.sub(" ", proposal))
    return sum(name in known for name in names) / len(names) if names else None


@cache
def _builtin_names() -> frozenset[str]:
    kinds = [vars(builtins)[name] for name in dir(builtins)]
    return frozenset(dir(builtins)) | {name for kind in kinds if isinstance(kind, type) for name in dir(kind)}


@cache
def _members(module: str) -> frozenset[str]:
    """What a module of the standard library holds; nothing where it can't be imported here."""
    try:
        return frozenset(dir(importlib.import_module(module)))
    except ImportError:
        return frozenset()
