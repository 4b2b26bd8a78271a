"""Look which optional packages are installed. Imports none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

from cynosure.cli.finding import Finding, Weight

#: What each extra is for; those that only developers need are not looked for.
EXTRAS = {
    "server": "cynosure serve",
    "retrieval": "the documentation: serve, ask, search, index",
    "constraints": "JSON Schema, regex, grammar and choice",
    "telemetry": "spans",
    "memory": "searches of an external memory, in Python",
    "lsp": "completion in editors",
    "traces": "traces in files",
}
#: Without these `cynosure serve` does not start as it is.
SERVED_BY = frozenset({"server", "retrieval"})

#: For those who ask for it.
_SELDOM = frozenset({"telemetry", "memory", "lsp", "traces"})

_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+).*;.*extra\s*==\s*['\"]([a-z]+)['\"]")


def packages() -> list[Finding]:
    """An extra a line, with what it lacks."""
    lacking = _lacking()
    return [_finding(extra, lacking[extra]) for extra in EXTRAS]


def missing_extras() -> frozenset[str]:
    """Those of which a package is not installed."""
    return frozenset(extra for extra, names in _lacking().items() if names)


def _finding(extra: str, absent: Sequence[str]) -> Finding:
    if not absent:
        return Finding(f"extra {extra}", f"installed, for {EXTRAS[extra]}")
    return Finding(
        f"extra {extra}",
        f"{', '.join(absent)} not installed, which this is for: {EXTRAS[extra]}",
        Weight.BROKEN if extra in SERVED_BY else Weight.FINE if extra in _SELDOM else Weight.LESS,
        f"Run `pip install 'cynosure[{extra}]'`",
    )


def _lacking() -> dict[str, list[str]]:
    lacking: dict[str, list[str]] = {extra: [] for extra in EXTRAS}
    for line in metadata.requires("cynosure") or []:
        found = _REQUIREMENT.match(line)
        if found and found[2] in lacking and not _is_installed(found[1]):
            lacking[found[2]].append(found[1])
    return lacking


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
