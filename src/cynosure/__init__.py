"""Cynosure, the centre of attention. Hands its public names on, each at its first use.

`import cynosure` costs milliseconds: a name's home is imported when the name is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cynosure.attention import AttentionSpec, AttentionState, attend, explain, merge
    from cynosure.core.errors import CynosureError
    from cynosure.models.load import load

__version__ = "0.1.0"
__all__ = ["AttentionSpec", "AttentionState", "CynosureError", "attend", "explain", "load", "merge"]

_HOMES = {
    "AttentionSpec": "cynosure.attention",
    "AttentionState": "cynosure.attention",
    "CynosureError": "cynosure.core.errors",
    "attend": "cynosure.attention",
    "explain": "cynosure.attention",
    "load": "cynosure.models.load",
    "merge": "cynosure.attention",
}


def __getattr__(name: str) -> object:
    """Import a public name's home when the name is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"cynosure has no name {name!r}; it hands on {', '.join(__all__)}.")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, so that completion shows what is not imported yet."""
    return sorted([*globals(), *__all__])
