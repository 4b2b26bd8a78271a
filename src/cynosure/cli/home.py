"""Say where Cynosure keeps its files. Writes none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: In Cynosure's home: packed weights, a file a model. Removing it costs the next start some seconds.
PACKED_FOLDER = "packed"


def data_home(environ: Mapping[str, str]) -> Path:
    """`$CYNOSURE_HOME`, else `cynosure` in the user's cache (XDG); all of it can be rebuilt."""
    if environ.get("CYNOSURE_HOME"):
        return Path(environ["CYNOSURE_HOME"]).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "cynosure"
