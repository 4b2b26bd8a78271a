"""Mark the functions and classes of Python source. Knows nothing of files, and runs nothing."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from cynosure.retrieval.files.marks import Mark, line_starts

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_marks(text: str) -> tuple[Mark, ...]:
    """A mark where each function or class begins and ends; source that does not parse has only the first."""
    top = Mark(0, "", "code")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return (top,)
    # Several marks at one place: the last says what begins there.
    marks = {
        mark.start: mark for mark in (top, *_within(tree.body, "", "code", line_starts(text), len(text)))
    }
    return tuple(marks[start] for start in sorted(marks))


def _within(body: Sequence[ast.stmt], owner: str, kind: str, lines: list[int], length: int) -> Iterator[Mark]:
    for node in body:
        if not isinstance(node, _Definition):
            continue
        name = f"{owner}.{node.name}" if owner else node.name
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        what = "class" if isinstance(node, ast.ClassDef) else "method" if kind == "class" else "function"
        yield Mark(lines[first - 1], name, what)
        if isinstance(node, ast.ClassDef):
            yield from _within(node.body, name, what, lines, length)
        last = node.end_lineno or node.lineno
        yield Mark(lines[last] if last < len(lines) else length, owner, kind)
