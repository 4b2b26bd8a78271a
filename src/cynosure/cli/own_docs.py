"""Ask an index of one's own files. Knows nothing of HTTP, or of how files are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import apsw

from cynosure.cli.python_docs import DocsEmbedder, DocsRanker, PythonDocs, unwritable
from cynosure.core.errors import IndexFault
from cynosure.retrieval import FILE_GATE, DocsSearch, Store, open_index
from cynosure.retrieval.files import FILE_CALIBRATION, FILE_WEIGHTS, SOURCE, Change, index_files
from cynosure.server.runtime import Report

NAME = "documents"
TITLE = "Own documents"


def own_index_path(folder: Path) -> Path:
    """Where the index of one's own files lies."""
    return folder / f"{NAME}.sqlite"


def open_own_store(path: Path, embedder: DocsEmbedder) -> Store:
    """Open the index at `path`.

    Raises:
        IndexFault: there is none, or none that can be used; it is never rebuilt unasked.
    """
    if not path.is_file():
        raise IndexFault(f"there is no index of own documents at {path}. Run `cynosure index PATH`.")
    try:
        return open_index(path, SOURCE, embedder)
    except IndexFault as fault:
        raise IndexFault(f"{fault} Remove the file, then run `cynosure index PATH`.") from fault


def open_own_docs(path: Path, embedder: DocsEmbedder, ranker: DocsRanker | None = None) -> PythonDocs:
    """Open the index at `path` to ask it; raises as `open_own_store`."""
    search = DocsSearch(open_own_store(path, embedder), embedder, FILE_WEIGHTS, FILE_CALIBRATION, ranker)
    return PythonDocs(search, embedder, NAME, TITLE, ranker, FILE_GATE)


def index_own_docs(
    path: Path,
    named: Sequence[Path],
    embedder: DocsEmbedder,
    report: Report,
    *,
    forgets: bool = False,
    skips_faulty: bool = False,
) -> Change:
    """Bring the index up to date with the named paths; raises as `index_files` does.

    Raises:
        EnvironmentFault: it can't be written.
    """
    stage = "Indexing passages"
    report("Reading files", 0, 0)
    try:
        if path.exists():
            open_own_store(path, embedder).close()
        return index_files(
            path,
            named,
            embedder,
            lambda done, total: report(stage, done, total),
            forgets=forgets,
            skips_faulty=skips_faulty,
        )
    except (OSError, apsw.Error) as fault:
        raise unwritable(path, fault) from fault
