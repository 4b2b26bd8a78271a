"""Turn marked-up lines of reStructuredText into the words that a reader sees. Knows nothing of directives."""

from __future__ import annotations

import re
from collections.abc import Mapping

_INLINE = re.compile(
    r"""
      ``(?P<code>.+?)``
    | :(?P<role>[a-zA-Z][\w:+.-]*):`(?P<target>[^`]+)`
    | `(?P<link>[^`]+)`__?
    | \*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*
    | (?<![\w*\\])\*(?P<emphasis>[^*\s](?:[^*]*[^*\s\\])?)\*(?![\w*])
    | \|(?P<substitute>[\w.-]+)\|_?
    | [ ]?\[(?:\d+|\#\w*)\]_
    | \\(?P<escaped>\S)
    | \\[ ]
    """,
    re.VERBOSE | re.DOTALL,
)
_TITLED = re.compile(r"(?P<title>.+?)\s*<[^<>]*>$", re.DOTALL)
_CALLS = frozenset({"func", "meth", "c:func"})
_NUMBERED = {"pep": "PEP ", "rfc": "RFC "}


def plain(text: str, substitutes: Mapping[str, str] | None = None) -> str:
    """Leave out what marks words as code, as emphasised or as a reference.

    Args:
        text: Lines of text, none of them code.
        substitutes: What `|name|` stands for; an unknown one is left as it is.
    """
    known = substitutes or {}

    def seen(match: re.Match[str]) -> str:
        found = match.groupdict()
        if found["role"]:
            return _role(found["role"], found["target"])
        if found["link"]:
            titled = _TITLED.match(found["link"])
            return titled["title"] if titled else found["link"]
        if found["substitute"]:
            return known.get(found["substitute"], match[0])
        return found["code"] or found["strong"] or found["emphasis"] or found["escaped"] or ""

    return _INLINE.sub(seen, text)


def _role(role: str, target: str) -> str:
    """What a role shows: its title, or the last part of a name that a tilde shortens."""
    role = role.removeprefix("py:")
    titled = _TITLED.match(target)
    if titled:
        return titled["title"]
    if role == "ref":
        # A label: the section's own title is in another place.
        return target.replace("-", " ")
    name = target.removeprefix("!")
    if name.startswith("~"):
        name = name[1:].rpartition(".")[2]
    if role in _CALLS and not name.endswith(")"):
        name += "()"
    return _NUMBERED.get(role, "") + name
