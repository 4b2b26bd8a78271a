"""Bring the index of one store up to date with the files in it. Knows nothing of tenants or threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cynosure.core.errors import CynosureError, IndexFault, InputError, InputTooLong
from cynosure.retrieval.documents import Entry
from cynosure.retrieval.files.collection import SOURCE
from cynosure.retrieval.files.formats import is_read, read_text, refusal
from cynosure.retrieval.files.growth import empty, grown
from cynosure.retrieval.files.marks import Extract, entries_of
from cynosure.retrieval.index import open_index
from cynosure.retrieval.library.catalog import Catalog
from cynosure.retrieval.library.records import COMPLETED, IN_PROGRESS, Fault, Shelved
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.store import Contents, Store, fingerprint, write_store

#: Names what shapes an index beside the embedder: entries have their file's id as module.
UPLOADS = f"{SOURCE}, uploads 1"

#: Characters that are embedded before an index is written: what came first is found soon.
ROUND_CHARS = 1 << 20

_OURS = "the server could not index it; its log says why. Put it into the store again."

Check = Callable[[], None]
"""Raises where the work is to be given up."""


@dataclass(frozen=True)
class Round:
    """One bringing up to date: of which version, and whether there is more to do."""

    version: int
    is_last: bool


def open_uploads(path: Path, embedder: Embedder) -> Store:
    """Open the index of a store; raises `IndexFault` where there is none that can be used."""
    return open_index(path, UPLOADS, embedder)


def extract_of(filename: str, content: bytes) -> Extract:
    """The text of an uploaded file.

    Raises:
        InputError: it is not read, or of another format than its name says, damaged, encrypted ...
        MissingPackage: what reads the format is not installed.
    """
    try:
        return read_text(filename, content)
    except RecursionError as fault:
        raise InputError(f"{filename} is nested too deeply to be read. Leave it out.") from fault


def index_round(
    catalog: Catalog, store_id: str, path: Path, embedder: Embedder, check: Check
) -> Round | None:
    """Read some of the files that are new, write the index anew, and note what is found now.

    A file that can't be read fails alone. A fault of embedder or disk is raised, and the index is as it was.

    Returns:
        None where there is no such store any more.
    """
    version = catalog.version(store_id)
    if version is None:
        return None
    files = catalog.shelved(store_id)
    old = _old_contents(path, embedder)
    there = {entry.module for entry in old.entries}
    waiting = [one for one in files if one.state == IN_PROGRESS]
    waiting += [one for one in files if one.state == COMPLETED and one.id not in there]
    read, left = _read_some(catalog, waiting, check)
    keeps = {one.id for one in files if one.state == COMPLETED} - {one.id for one, _ in read}
    kept = [place for place, entry in enumerate(old.entries) if entry.module in keeps]
    fresh = [entry for _, entries in read for entry in entries]
    try:
        contents = grown(old, kept, fresh, embedder, lambda done, total: check())
    except InputTooLong as fault:
        for one, _ in read:
            catalog.fail(one, Fault("invalid_file", str(fault)))
        return Round(version, is_last=not read)
    write_store(path, contents, fingerprint(UPLOADS, embedder))
    sizes = _sizes(contents)
    made = {one.number: sizes.get(one.id, 0) for one, _ in read}
    if not catalog.settle(store_id, version if not left else version - 1, made):
        path.unlink(missing_ok=True)
        return None
    return Round(version, is_last=not left)


def fail_waiting(catalog: Catalog, store_id: str) -> None:
    """Note of all files of a store that wait that the server could not index them; nothing if it is gone."""
    if catalog.version(store_id) is not None:
        for one in catalog.shelved(store_id):
            if one.state == IN_PROGRESS:
                catalog.fail(one, Fault("server_error", _OURS))


def _old_contents(path: Path, embedder: Embedder) -> Contents:
    try:
        store = open_uploads(path, embedder)
    except IndexFault:
        # None yet, or of another embedder: the files are here to make it of.
        return empty(embedder.dim)
    store.close()
    return store.contents


def _read_some(
    catalog: Catalog, waiting: Sequence[Shelved], check: Check
) -> tuple[list[tuple[Shelved, tuple[Entry, ...]]], bool]:
    """Entries of the first files that wait, and whether others are left."""
    read: list[tuple[Shelved, tuple[Entry, ...]]] = []
    num_chars = 0
    for one in waiting:
        check()
        if num_chars >= ROUND_CHARS:
            return read, True
        entries = _entries(catalog, one)
        if entries is not None:
            read.append((one, entries))
            num_chars += sum(len(entry.doc) for entry in entries)
    return read, False


def _entries(catalog: Catalog, one: Shelved) -> tuple[Entry, ...] | None:
    try:
        extract = extract_of(one.filename, catalog.content(one.id))
        found = entries_of(one.filename, extract)
        if not found:
            raise InputError(f"{one.filename} holds no text. Leave it out.")
        return tuple(replace(entry, module=one.id) for entry in found)
    except InputError as fault:
        message = str(fault) if is_read(one.filename) else f"{one.filename}: {refusal(one.filename)}"
        catalog.fail(one, Fault("invalid_file" if is_read(one.filename) else "unsupported_file", message))
    except CynosureError as fault:
        catalog.fail(one, Fault("server_error", str(fault)))
    return None


def _sizes(contents: Contents) -> dict[str, int]:
    """Bytes of text and vectors in the index, by file."""
    sizes: dict[str, int] = {}
    for entry in contents.entries:
        sizes[entry.module] = sizes.get(entry.module, 0) + len(entry.doc.encode())
    for passage in contents.passages:
        sizes[contents.entries[passage.entry].module] += 2 * contents.vectors.shape[1]
    return sizes
