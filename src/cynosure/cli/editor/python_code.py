"""Find names and imports in Python code that may be unfinished. Knows nothing of modules or files.

What somebody types does not parse while it is typed: strings and comments are blanked, and the rest is read
as words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A long string that is not closed reaches to the end; a short one, to the end of its line.
_BLANKED = re.compile(
    r"""\#[^\n]*
    | (?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z))
    | (?:'''(?:[^\\]|\\.)*?(?:'''|\Z))
    | "(?:[^"\\\n]|\\.)*"?
    | '(?:[^'\\\n]|\\.)*'?""",
    re.VERBOSE | re.DOTALL,
)
#: A number's letters are no name: 0xFF, 1e5.
_WORD = re.compile(r"(?<![\w.])\d[\w.]*|[^\W\d]\w*")
_IMPORT = re.compile(r"(?:^|;)[ \t]*import[ \t]+([^\n;]+)", re.MULTILINE)
_FROM = re.compile(
    r"(?:^|;)[ \t]*from[ \t]*(\.*[ \t]*[\w.]*)[ \t]+import[ \t]*(\([^)]*\)?|[^\n;]*)", re.MULTILINE
)
_BEGUN = re.compile(r"[^\W\d]\w*\Z")
_REST = re.compile(r"\A\w+")


@dataclass(frozen=True)
class Import:
    """A module that code imports, and what it takes from it; `level` counts the dots before its name."""

    module: str
    level: int = 0
    taken: tuple[str, ...] = ()


def without_begun(prefix: str, suffix: str) -> str:
    """A text without the name that is being written where prefix and suffix meet; it is not known yet."""
    begun = _BEGUN.search(prefix)
    return f"{prefix} {suffix}" if begun is None else f"{prefix[: begun.start()]} {_REST.sub('', suffix)}"


def blanked(code: str) -> str:
    """Code whose strings and comments are empty."""
    return _BLANKED.sub(lambda match: '""' if match[0][0] != "#" else "", code.replace("\\\n", " "))


def names_in(code: str) -> frozenset[str]:
    """The names of blanked code, keywords among them."""
    return frozenset(word for word in _WORD.findall(code) if not word[0].isdigit())


def imports_in(code: str) -> tuple[Import, ...]:
    """What blanked code imports, wherever it does."""
    found = []
    for match in _IMPORT.finditer(code):
        found += [Import(part.split()[0]) for part in match[1].split(",") if part.strip()]
    for match in _FROM.finditer(code):
        module = "".join(match[1].split())
        level = len(module) - len(module.lstrip("."))
        taken = [part.split()[0] for part in match[2].strip("() \t").split(",") if part.strip()]
        found.append(Import(module[level:], level, tuple(taken)))
    return tuple(dict.fromkeys(one for one in found if _is_dotted(one.module) or one.level))


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
