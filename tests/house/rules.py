"""State the rules of the house as functions: a source goes in, a list of faults comes out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "cynosure"
CEILING = 400
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "managers", "manager", "base", "misc"}

# Rooms that see Protocols, never the layers that carry tensors through a network.
UPWARD_BLIND = {"retrieval", "guard", "insight"}
NETWORKS = {"torch", "cynosure.models", "cynosure.attention", "cynosure.cache", "transformers"}
TORCH_FREE = UPWARD_BLIND | {"core", "observe"}

UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load"}

# Written so that no pattern matches its own spelling.
FORBIDDEN_TEXT = [
    (re.compile(r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|opt/pyp[i]|User[s]/\w+)/"), "a path of one machine"),
    (
        re.compile(r"inde[x]-url|find-link[s]|pypi\.or[g]/simple|registr[y]\.npmjs|download\.pytorc[h]"),
        "a registry",
    ),
    (re.compile(r"\bissu[e]s? #?\d|\(#\d+\)", re.IGNORECASE), "the number of an issue"),
    (
        re.compile(r"\bsu[b]-?agent|\b(?:AI|coding) agen[t]\b|\bsessio[n] \d", re.IGNORECASE),
        "how it was written",
    ),
]
TEXT_SUFFIXES = {
    ".py", ".md", ".toml", ".html", ".css", ".js", ".json", ".jsonl", ".txt", ".yml", ".yaml", ".sh",
    ".cpp", ".h", "",
}  # fmt: skip
NOT_OURS = {
    ".git",
    ".venv",
    ".peers",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
}


def files(*suffixes: str, under: Path = ROOT) -> Iterator[Path]:
    """Yield the files of the repository, in order, leaving out what a tool made."""
    for path in sorted(under.rglob("*")):
        if path.suffix in suffixes and path.is_file() and not NOT_OURS.intersection(path.parts):
            yield path


def too_long(text: str) -> list[str]:
    """A file holds at most `CEILING` lines that are not blank."""
    lines = sum(1 for line in text.splitlines() if line.strip())
    return [f"{lines} lines; the ceiling is {CEILING}. Split it by noun."] if lines > CEILING else []


def bad_name(relative: Path) -> list[str]:
    """No drawer for everything: a helper lives beside its only user."""
    found = FORBIDDEN_NAMES.intersection([*relative.parts[:-1], relative.stem])
    return [f"named {name!r}, which says nothing. Name the noun that it holds." for name in sorted(found)]


def bad_docstring(text: str) -> list[str]:
    """The first line is two sentences at least: what the module does, and where it ends."""
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    first = (docstring or "").split("\n")[0]
    if first.endswith(".") and ". " in first:
        return []
    return [f"first line {first!r} states no boundary. Write: 'Do this. Knows nothing of that.'"]


def bad_init(text: str) -> list[str]:
    """An `__init__` only hands names on: imports and `__all__`."""
    faults = []
    for node in ast.parse(text).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        targets = node.targets if isinstance(node, ast.Assign) else []
        is_all = [target.id for target in targets if isinstance(target, ast.Name)] == ["__all__"]
        if not (is_docstring or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            faults.append(f"line {node.lineno}: {type(node).__name__} in an __init__. Move it to a module.")
    return faults


def imports(text: str) -> Iterator[tuple[int, str]]:
    """Yield every imported module with its line, those in functions and for type checkers too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _within(module: str, roots: set[str]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def forbidden_imports(room: str, text: str) -> list[str]:
    """Rooms of policy import no network, and no room opens pickles."""
    closed = set(UNSAFE_MODULES)
    if room in TORCH_FREE:
        closed |= NETWORKS
    return [
        f"line {line}: {room} imports {module}. Take a Protocol, or move the type down."
        for line, module in imports(text)
        if _within(module, closed)
    ]


def forbidden_calls(text: str) -> list[str]:
    """No `hasattr` as dispatch, no evaluation of text, no opening of pickles."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}(). Declare it in a type or a Protocol."
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS | {"hasattr"}
    ]


def silenced_limits(text: str) -> list[str]:
    """The limits of size are not silenced line by line, and no file is let off as a whole."""
    silenced = re.compile(r"#\s*(?:ruff|flake8):\s*noqa|#\s*noqa:.*PLR09|#\s*noqa\s*$", re.MULTILINE)
    return [f"{found[0]!r} silences a limit. Keep to it." for found in silenced.finditer(text)]


def forbidden_text(text: str) -> list[str]:
    """Nothing names one machine, a registry's host, or how the text came to be."""
    return [
        f"line {text.count(chr(10), 0, found.start()) + 1}: {found[0]!r} names {what}."
        for pattern, what in FORBIDDEN_TEXT
        for found in pattern.finditer(text)
    ]


def claims_a_cause(text: str) -> list[str]:
    """A reader is told what was attended to; attention is not a cause."""
    return (
        ["says 'because of'; say 'attended to'."] if re.search(r"because\s+of", text, re.IGNORECASE) else []
    )
