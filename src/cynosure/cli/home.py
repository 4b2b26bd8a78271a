"""Say where Cynosure keeps its files. Writes none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: In Cynosure's home: packed weights, a file a model. Removing it costs the next start some seconds.
PACKED_FOLDER = "packed"


def files_home(environ: Mapping[str, str]) -> Path:
    """Where uploaded files are kept, which can't be made again: apart from what can."""
    if environ.get("CYNOSURE_HOME"):
        return data_home(environ) / "files"
    data = environ.get("XDG_DATA_HOME", "")
    folder = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return folder / "cynosure" / "files"


def data_home(environ: Mapping[str, str]) -> Path:
    """`$CYNOSURE_HOME`, else `cynosure` in the user's cache (XDG); all of it can be rebuilt."""
    if environ.get("CYNOSURE_HOME"):
        return Path(environ["CYNOSURE_HOME"]).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "cynosure"
