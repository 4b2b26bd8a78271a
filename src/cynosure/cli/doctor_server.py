"""Look at what a server would need: embedder, index, audit log, weights, disk, port. Starts none."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cynosure.cli.audit import LOG_NAME, audit_folders
from cynosure.cli.finding import Finding, Weight
from cynosure.cli.home import PACKED_FOLDER, data_home
from cynosure.cli.python_docs import index_path
from cynosure.core.errors import CynosureError
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import find_reference, open_index, python_source
from cynosure.server.listening import take_port
from cynosure.server.settings import ServerSettings

_LITTLE_DISK = 1 << 30


def serving(index_folder: Path, number: int, environ: Mapping[str, str]) -> list[Finding]:
    """All of it."""
    return [
        *documentation(index_path(index_folder)),
        audit_log(environ),
        packed_weights(data_home(environ) / PACKED_FOLDER),
        disk(data_home(environ)),
        port(number),
    ]


def documentation(path: Path) -> list[Finding]:
    """The embedder and the index made with it."""
    try:
        embedder = load_minilm()
    except CynosureError as fault:
        return [Finding("embedder", str(fault), Weight.BROKEN)]
    known = Finding("embedder", f"{embedder.model_id}, weights verified")
    if not path.exists():
        return [known, Finding("index", f"none yet at {path}; the first start builds it")]
    try:
        store = open_index(path, python_source(find_reference(os.environ)), embedder)
    except CynosureError as fault:
        return [known, Finding("index", str(fault), Weight.BROKEN)]
    names = {entry.name for entry in store.contents.entries}
    return [known, Finding("index", f"{len(names)} objects at {path}")]


def audit_log(environ: Mapping[str, str]) -> Finding:
    """Where the next server would keep its log, and whether it can."""
    folders = audit_folders(environ)
    free = next((folder for folder in folders if not _is_in_use(folder / f"{LOG_NAME}.lock")), None)
    if free is None:
        return Finding(
            "audit log", f"all {len(folders)} folders are in use", Weight.BROKEN, "Start with --audit FOLDER"
        )
    there = next(folder for folder in (free, *free.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            "audit log",
            f"{there} can't be written by this user",
            Weight.BROKEN,
            "Change who owns it, or start with --audit FOLDER",
        )
    taken = folders.index(free)
    beside = f"; {taken} before it in use by other servers" if taken else ""
    return Finding("audit log", f"free at {free}{beside}")


def packed_weights(folder: Path) -> Finding:
    """What starts of the server left for the next one."""
    files = [*folder.glob("*")] if folder.exists() else []
    if not files:
        return Finding("packed weights", f"none yet in {folder}")
    size = sum(file.stat().st_size for file in files)
    found = f"{len(files)} models, {size / (1 << 30):.1f} GiB in {folder}; it may be removed at any time"
    return Finding("packed weights", found)


def disk(home: Path) -> Finding:
    """Room for indexes and packed weights."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / (1 << 30):.1f} GiB free at {there}"
    if free < _LITTLE_DISK:
        return Finding("disk", found, Weight.LESS, "Free some, or set CYNOSURE_HOME to another disk")
    return Finding("disk", found)


def port(number: int) -> Finding:
    """Whether the server could listen."""
    settings = ServerSettings(port=number)
    try:
        listener = take_port(settings)
    except CynosureError as fault:
        return Finding("port", str(fault), Weight.BROKEN)
    listener.close()
    return Finding("port", f"{number} of {settings.host} is free")


def _is_in_use(lock: Path) -> bool:
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Nobody wrote there yet, or we may not look; whether we may write is told elsewhere.
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
