"""Keep an index of the files below the paths that were named. Knows nothing of formats or questions.

Every run writes a whole index aside and renames it, so that a fault or a kill leaves the one before. What is
unchanged by its content's hash keeps its entries and vectors; what is gone is dropped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cynosure.core.errors import EnvironmentFault, InputError, InputTooLong, MissingPackage
from cynosure.retrieval.documents import Entry
from cynosure.retrieval.files.formats import is_read, read_text, refusal
from cynosure.retrieval.files.growth import empty, grown
from cynosure.retrieval.files.marks import entries_of
from cynosure.retrieval.files.roots import Found, Root, files_below, leads_within, merged, read_file, root_of
from cynosure.retrieval.index import open_index
from cynosure.retrieval.protocols import Embedder, Progress
from cynosure.retrieval.store import Contents, Store, fingerprint, write_store

#: Names the readers: raise it whenever one takes out other text, marks or names.
SOURCE = "files 1"

MAX_FILES = 20_000

#: Faults that are told one by one; the others are counted.
_TOLD = 10


@dataclass(frozen=True)
class FileRecord:
    """A file in the index: what it is called there, and its content's hash."""

    label: str
    sha256: str


@dataclass(frozen=True)
class Change:
    """What a run did, by file.

    Attributes:
        added: Files that were not there before.
        changed: Files whose content is another.
        kept: How many stayed as they were.
        dropped: Files that are gone, or no longer below a path.
        left_out: Files of formats that are not read, found below a folder.
        faults: Why others were left out, where that was asked for.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    kept: int
    dropped: tuple[str, ...]
    left_out: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Old:
    """What the index held before, by the path of its file."""

    roots: tuple[Root, ...]
    files: Mapping[str, FileRecord]
    entries: Mapping[str, list[int]]
    contents: Contents

    @classmethod
    def of(cls, store: Store) -> _Old:
        notes = json.loads(store.contents.notes)
        entries: dict[str, list[int]] = {}
        for place, entry in enumerate(store.contents.entries):
            entries.setdefault(entry.module, []).append(place)
        files = {path: FileRecord(**record) for path, record in notes["files"].items()}
        return cls(tuple(Root(Path(root)) for root in notes["roots"]), files, entries, store.contents)

    @classmethod
    def none(cls, dim: int) -> _Old:
        return cls((), {}, {}, empty(dim))


@dataclass(frozen=True)
class _Kept:
    """A file whose entries are those of the old index."""

    record: FileRecord


@dataclass(frozen=True)
class _Read:
    """A file that was read."""

    record: FileRecord
    entries: tuple[Entry, ...]


def index_files(
    path: Path,
    named: Sequence[Path],
    embedder: Embedder,
    progress: Progress | None = None,
    *,
    forgets: bool = False,
    skips_faulty: bool = False,
) -> Change:
    """Bring the index at `path` up to date with the paths that are named, which are added to those before.

    Args:
        path: Where the index lies, or is to lie.
        named: Folders and files to read anew; with `forgets`, to drop.
        embedder: Makes the vectors.
        progress: Told of passages embedded and to embed.
        forgets: Drop the named paths from the index instead.
        skips_faulty: Leave out what can't be read and go on, instead of refusing the whole run.

    Raises:
        InputError: a path or a file is refused; the index is as it was.
        IndexFault: the index is of another embedder or recipe, or damaged.
        EnvironmentFault: another process writes to it.
    """
    with _sole_writer(path):
        old = _opened(path, embedder)
        if forgets:
            asked, fresh = (), ()
            roots = _without(old.roots, named)
        else:
            asked = tuple(root_of(one) for one in named)
            roots, fresh = merged(old.roots, asked)
        files, left_out, faults = _gather(old, roots, fresh, {one.path for one in asked})
        if faults and not skips_faulty:
            raise InputError(_told(faults))
        contents = _contents(old, roots, files, embedder, progress)
        write_store(path, contents, fingerprint(SOURCE, embedder))
    before, now = old.files, {name: file.record for name, file in files.items()}
    both = now.keys() & before.keys()
    changed = sorted(name for name in both if now[name] != before[name])
    return Change(
        tuple(sorted(now.keys() - before.keys())),
        tuple(changed),
        len(both) - len(changed),
        tuple(sorted(before.keys() - now.keys())),
        tuple(left_out),
        tuple(faults),
    )


def indexed_files(store: Store) -> tuple[tuple[Path, ...], int]:
    """The paths that an index was made of, and how many files it holds."""
    old = _Old.of(store)
    return tuple(root.path for root in old.roots), len(old.files)


def _opened(path: Path, embedder: Embedder) -> _Old:
    if not path.exists():
        return _Old.none(embedder.dim)
    store = open_index(path, SOURCE, embedder)
    try:
        return _Old.of(store)
    finally:
        store.close()


def _without(roots: Sequence[Root], named: Sequence[Path]) -> tuple[Root, ...]:
    # What is to be forgotten may be gone: nothing is asked of the disk but where links lead.
    unwanted = {Path(one).expanduser().resolve() for one in named}
    known = {root.path for root in roots}
    for one in unwanted - known:
        shown = ", ".join(map(str, sorted(known))) or "none"
        raise InputError(f"{one} is no path of the index; its paths: {shown}. Name one of these.")
    return tuple(root for root in roots if root.path not in unwanted)


def _gather(
    old: _Old, roots: Sequence[Root], fresh: Sequence[Root], asked: Set[Path]
) -> tuple[dict[str, _Kept | _Read], list[str], list[str]]:
    """Every file of the new index by its path, what is not read by its name, and the faults of others."""
    files: dict[str, _Kept | _Read] = {}
    left_out: list[str] = []
    faults: list[str] = []
    for name, record in old.files.items():
        root = next((root for root in roots if Path(name).is_relative_to(root.path)), None)
        if root is not None and root not in fresh:
            files[name] = _Kept(record)
    for root in fresh:
        for found in files_below(root):
            try:
                if found.path.is_symlink() and leads_within(found, roots):
                    continue
                # What was named itself is refused, not left out.
                if found.path not in asked and not is_read(found.path.name):
                    left_out.append(str(found.path))
                    continue
                files[str(found.path)] = _taken(found, old)
            except (InputError, MissingPackage) as fault:
                faults.append(str(fault))
            if len(files) > MAX_FILES:
                raise InputTooLong(
                    f"there are over {MAX_FILES} files, which is the limit. Name fewer folders."
                )
    _refuse_namesakes(files)
    return files, left_out, faults


def _taken(found: Found, old: _Old) -> _Kept | _Read:
    path, label = found.path, found.root.label(found.path)
    if not is_read(path.name):
        raise InputError(f"{path}: {refusal(path.name)}")
    content = read_file(found)
    record = FileRecord(label, hashlib.sha256(content).hexdigest())
    if old.files.get(str(path)) == record:
        return _Kept(record)
    try:
        return _Read(record, entries_of(label, read_text(str(path), content)))
    except RecursionError as fault:
        raise InputError(f"{path} is nested too deeply to be read. Leave it out.") from fault


def _refuse_namesakes(files: Mapping[str, _Kept | _Read]) -> None:
    paths: dict[str, str] = {}
    for path, file in files.items():
        other = paths.setdefault(file.record.label, path)
        if other != path:
            raise InputError(
                f"{other} and {path} would both be called {file.record.label}. "
                "Index a folder that is above both, or forget one."
            )


def _contents(
    old: _Old,
    roots: Sequence[Root],
    files: Mapping[str, _Kept | _Read],
    embedder: Embedder,
    progress: Progress | None,
) -> Contents:
    """The new index: old entries with their vectors, then new ones that are embedded."""
    kept = sorted(
        place
        for file in files.values()
        if isinstance(file, _Kept)
        for place in old.entries.get(file.record.label, ())
    )
    fresh = [entry for file in files.values() if isinstance(file, _Read) for entry in file.entries]
    notes = {
        "roots": [str(root.path) for root in roots],
        "files": {path: asdict(file.record) for path, file in files.items()},
    }
    return grown(old.contents, kept, fresh, embedder, progress, json.dumps(notes))


def _told(faults: Sequence[str]) -> str:
    more = f" And {len(faults) - _TOLD} more." if len(faults) > _TOLD else ""
    return f"nothing was indexed: {' '.join(faults[:_TOLD])}{more} Or leave such files out: --skip-faulty."


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Hold the index's lock; what a killed writer left behind is removed under it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise EnvironmentFault(f"another process writes to {path}. Wait until it has ended.") from fault
        for left in path.parent.glob(f"{path.name}.*.part"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)
