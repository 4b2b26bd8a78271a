"""Read the interpreter's own documentation in a child process. Knows nothing of how it is searched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval.asked_phrases import asked_mark, read_asked
from cynosure.retrieval.documents import Documentation, Entry
from cynosure.retrieval.reference import read_reference, reference_mark

READER = Path(__file__).with_name("stdlib_reader.py")
MAX_SECONDS = 120.0
MAX_SHOWN = 2000


def python_source(reference: Path | None = None) -> str:
    """Name the documentation of this interpreter: another build or other pages have another name."""
    version = sys.version.replace("\n", " ")
    parts = (
        f"{sys.implementation.name} {version} on {sys.platform}",
        asked_mark(),
        reference_mark(reference),
    )
    return "; ".join(part for part in parts if part)


def read_python_docs(
    reader: Path = READER, max_seconds: float = MAX_SECONDS, reference: Path | None = None
) -> Documentation:
    """Read every public, documented object of the running interpreter's standard library.

    The modules are imported in a child process without a display, so nothing that importing them does can
    be seen here: no window, no output, no patched module.

    Args:
        reader: The script that reads the docstrings.
        max_seconds: How long it may take.
        reference: Where the reference documentation lies, which has more to say of most objects.

    Raises:
        EnvironmentFault: The child failed, or took more than `max_seconds`, or a page can't be read.
    """
    # -I and -S keep the environment and site-packages out, -B leaves no bytecode behind.
    command = [sys.executable, "-I", "-S", "-B", str(reader)]
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=max_seconds, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as fault:
        raise EnvironmentFault(
            f"reading the documentation of Python took more than {max_seconds:g} s. Start again; "
            "if that does not help, a module of this installation hangs when it is imported."
        ) from fault
    try:
        library = json.loads(done.stdout)
    except ValueError as fault:
        said = done.stderr.decode(errors="replace")[-MAX_SHOWN:]
        raise EnvironmentFault(
            f"reading the documentation of Python ended with status {done.returncode} and no document: "
            f"{said or 'nothing was said'}. Repair this Python installation."
        ) from fault
    if "fault" in library:
        raise EnvironmentFault(
            f"the documentation of Python could not be read: {library['fault'][-MAX_SHOWN:]} "
            "Repair this Python installation."
        )
    entries = tuple(Entry.from_json(found) for found in library["entries"])
    if reference is not None:
        entries += read_reference(reference, entries)
    return Documentation(python_source(reference), entries, library["failed"], read_asked())
