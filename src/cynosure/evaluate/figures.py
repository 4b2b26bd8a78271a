"""Fill the figures in Markdown from committed results. Knows nothing of how they were measured.

A figure names a result, the dotted path of a metric and a format; what stands between the comments is
generated. After an `@` the path leads through the result's record (command, machine, date) instead:

    <!-- figure: docs_search.mrr10 .3f -->0.512<!-- /figure -->
    <!-- figure: docs_search@machine.cpu -->...<!-- /figure -->

A table shows a mapping, one row a key; a mapping of mappings gets one column an inner key:

    <!-- table: parity .1e | Architecture | Largest error -->
    <!-- /table -->

Code spans and fenced code are left alone, so that a page may explain the syntax.

    python -m cynosure.evaluate.figures --check README.md docs/attention.md
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cynosure.core.errors import CynosureError, InputError, NotFound
from cynosure.evaluate.results import RESULTS, read_result

_CODE = r"^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`"
_HALF = r"<!-- /?(?:figure|table)\b"
_OPEN = r"<!-- (?P<kind>figure|table): (?P<ask>(?:(?!-->).)*) -->"
_MARK = rf"{_OPEN}(?P<shown>(?:(?!{_HALF}).)*)<!-- /(?P=kind) -->"
_TOKEN = re.compile(f"{_CODE}|{_MARK}|(?P<stray>{_HALF})", re.MULTILINE | re.DOTALL)
_ASK = re.compile(
    r"(?P<name>[a-z0-9_]+)(?P<root>[.@])?(?P<path>[^ |]*) ?(?P<format>[^ |]*) *(?P<heads>\|.*)?"
)


@dataclass(frozen=True)
class Figure:
    """One marker in a page: where it is, what stands there and what the results say."""

    line: int
    ask: str
    shown: str
    computed: str


def find_figures(text: str, folder: Path = RESULTS) -> list[Figure]:
    """List the figures of a page in reading order.

    Raises:
        NotFound: a result or metric that does not exist.
        InputError: a marker that is not closed, or not understood.
    """
    figures = []
    for token in _TOKEN.finditer(text):
        line = text.count("\n", 0, token.start()) + 1
        if token["stray"]:
            raise InputError(f"line {line}: a figure or table has one half only. Close or open it.")
        if token["kind"]:
            computed = compute(token["kind"], token["ask"], folder)
            figures.append(Figure(line, token["ask"], token["shown"], computed))
    return figures


def fill_figures(text: str, folder: Path = RESULTS) -> str:
    """Return the page with every figure as the results have it."""
    computed = iter(find_figures(text, folder))

    def filled(token: re.Match[str]) -> str:
        if not token["kind"]:
            return token[0]
        return f"<!-- {token['kind']}: {token['ask']} -->{next(computed).computed}<!-- /{token['kind']} -->"

    return _TOKEN.sub(filled, text)


def compute(kind: str, ask: str, folder: Path = RESULTS) -> str:
    """Compute what a marker must show: `kind` is figure or table, `ask` its words."""
    words = _ASK.fullmatch(ask)
    if not words:
        raise InputError(f"figure {ask!r} is not understood. Write: result.path.to.metric format.")
    value = _look_up(words["name"], words["root"] or ".", words["path"], folder)
    if kind == "table":
        heads = [head.strip() for head in (words["heads"] or "").split("|")[1:]]
        return _table(ask, value, words["format"], heads)
    if isinstance(value, Mapping):
        raise InputError(f"figure {ask!r} is a mapping of {', '.join(value)}. Name one, or use a table.")
    return _shown(ask, value, words["format"])


def _look_up(name: str, root: str, path: str, folder: Path) -> object:
    record: dict[str, object] = asdict(read_result(name, folder))
    value: object = record["metrics"] if root == "." else record
    for key in filter(None, path.split(".")):
        if not isinstance(value, Mapping) or key not in value:
            known = ", ".join(value) if isinstance(value, Mapping) else repr(value)
            raise NotFound(f"result {name} has no {path!r}: at {key!r} there is {known}. Correct the path.")
        value = value[key]
    return value


def _shown(ask: str, value: object, form: str) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not measured"}[value]
    try:
        return format(value, form)
    except (ValueError, TypeError) as fault:
        raise InputError(f"figure {ask!r}: {value!r} does not take the format {form!r} ({fault}).") from fault


def _table(ask: str, value: object, form: str, heads: Sequence[str]) -> str:
    if not isinstance(value, Mapping):
        raise InputError(f"table {ask!r} is the single value {value!r}. Use a figure, or name a mapping.")
    rows = [row for row in value.values() if isinstance(row, Mapping)]
    if rows and len(rows) < len(value):
        raise InputError(f"table {ask!r} mixes single values and mappings. Name one mapping of either kind.")
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["value"]
    heads = heads or ["", *columns]
    if len(heads) != 1 + len(columns):
        raise InputError(f"table {ask!r} has {len(heads)} headings for 1 + {len(columns)} columns.")
    lines = [list(heads), ["---", *["---:"] * (len(heads) - 1)]]
    for key, row in value.items():
        cells = [row.get(column) for column in columns] if isinstance(row, Mapping) else [row]
        lines.append([key, *(_cell(ask, cell, form) for cell in cells)])
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(ask: str, value: object, form: str) -> str:
    """Format floats as asked; counts and words stand in a table as they are."""
    return _shown(ask, value, form if isinstance(value, float) else "")


def check_page(page: Path, folder: Path = RESULTS) -> list[str]:
    """Say where a page differs from the results: one sentence a figure, none when all agree."""
    try:
        figures = find_figures(page.read_text(), folder)
    except CynosureError as fault:
        return [f"{page}: {fault}"]
    return [
        f"{page}:{figure.line}: {figure.ask!r} reads {figure.shown.strip()!r}; the results say "
        f"{figure.computed.strip()!r}. Run `make docs`."
        for figure in figures
        if figure.shown != figure.computed
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill or check pages from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cynosure.evaluate.figures", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail where a page differs from the results")
    action.add_argument("--write", action="store_true", help="write the results into the pages")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: results)")
    parser.add_argument("pages", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    if absent := [str(page) for page in asked.pages if not page.is_file()]:
        parser.error(f"no such page: {', '.join(absent)}. Name Markdown files that exist.")
    faults: list[str] = []
    for page in asked.pages:
        if asked.write:
            try:
                page.write_text(fill_figures(page.read_text(), asked.results))
            except CynosureError as fault:
                faults.append(f"{page}: {fault}")
        else:
            faults += check_page(page, asked.results)
    print("\n".join(faults) or f"figures: {len(asked.pages)} pages agree with {asked.results}/")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
