"""Keep one tenant's files and stores, and search them. Knows nothing of other tenants or of HTTP."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

from cynosure.core.errors import IndexFault, InputError
from cynosure.retrieval.library.catalog import Catalog
from cynosure.retrieval.library.filters import Filter
from cynosure.retrieval.library.indexing import extract_of, open_uploads
from cynosure.retrieval.library.records import (
    COMPLETED,
    Attribute,
    Batch,
    FileHit,
    KeptFile,
    KeptStore,
    Placement,
    Shelved,
)
from cynosure.retrieval.library.searching import FileSearch
from cynosure.retrieval.protocols import Embedder

#: Characters of a file's name: it stands in the names of all parts of the file.
MAX_FILENAME = 120

#: Indexes that one tenant has in memory; the one that was asked longest ago goes.
_MAX_OPEN = 8


class Shelf:
    """What one tenant has uploaded. All of it may wait for the disk; safe to use from several threads."""

    def __init__(
        self, folder: Path, catalog: Catalog, embedder: Embedder, wake: Callable[[str], None]
    ) -> None:
        """Take an open catalog; `wake` has a store's index brought up to date, beside the caller."""
        self.catalog = catalog
        self._folder = folder
        self._embedder = embedder
        self._wake = wake
        self._lock = threading.Lock()
        self._open: OrderedDict[str, FileSearch] = OrderedDict()

    def index_path(self, store_id: str) -> Path:
        """Where the index of a store lies."""
        return self._folder / f"{store_id}.sqlite"

    def forget_open(self, store_id: str) -> None:
        """Have the next question read the index from the disk, where there is a new one."""
        with self._lock:
            self._open.pop(store_id, None)

    def add_file(self, filename: str, purpose: str, content: bytes) -> KeptFile:
        """Keep a file, of any kind; whether it can be read shows when it is put into a store.

        Raises:
            InputError: its name is none.
            InputTooLong: it is too large, or too much would be kept.
        """
        return self.catalog.add_file(_checked(filename), purpose, content)

    def files(self) -> list[KeptFile]:
        """All files, the oldest first."""
        return self.catalog.files()

    def file(self, file_id: str) -> KeptFile:
        """One file; raises `NotFound`."""
        return self.catalog.file(file_id)

    def content(self, file_id: str) -> bytes:
        """A file's bytes; raises `NotFound`."""
        return self.catalog.content(file_id)

    def remove_file(self, file_id: str) -> None:
        """Forget a file, also in all stores; from now on nothing finds it. Raises `NotFound`."""
        for store_id in self.catalog.remove_file(file_id):
            self._wake(store_id)

    def add_store(
        self,
        name: str,
        description: str,
        metadata: Mapping[str, str],
        placements: Sequence[Placement] = (),
    ) -> KeptStore:
        """Make a store, with files in it or none.

        Raises:
            NotFound: there is no such file; then there is no store either.
            InputTooLong: there are too many stores.
        """
        store_id = self.catalog.add_store(name, description, metadata, placements)
        if placements:
            self._wake(store_id)
        return self.catalog.store(store_id)

    def stores(self) -> list[KeptStore]:
        """All stores, the oldest first."""
        return self.catalog.stores()

    def store(self, store_id: str) -> KeptStore:
        """One store; raises `NotFound`."""
        return self.catalog.store(store_id)

    def change_store(self, store_id: str, name: str | None, metadata: Mapping[str, str] | None) -> KeptStore:
        """Change what is given; raises `NotFound`."""
        self.catalog.change_store(store_id, name, metadata)
        return self.catalog.store(store_id)

    def remove_store(self, store_id: str) -> None:
        """Forget a store and its index; its files stay. Raises `NotFound`."""
        self.catalog.remove_store(store_id)
        self.index_path(store_id).unlink(missing_ok=True)
        self.forget_open(store_id)

    def put(self, store_id: str, placements: Sequence[Placement], *, is_batch: bool = False) -> str:
        """Put files into a store, all or none; they are found when they are indexed.

        Returns:
            The id of the batch, or nothing where it is none.

        Raises:
            NotFound: there is no such store or file.
            InputError: a file is named twice.
        """
        batch = self.catalog.put(store_id, placements, is_batch=is_batch)
        self._wake(store_id)
        return batch

    def shelved(self, store_id: str, batch: str | None = None) -> list[Shelved]:
        """The files of a store, or of a batch, in the order in which they came; raises `NotFound`."""
        if batch is not None:
            self.catalog.batch(store_id, batch)
        return self.catalog.shelved(store_id, batch)

    def one_shelved(self, store_id: str, file_id: str) -> Shelved:
        """One file of a store; raises `NotFound`."""
        return self.catalog.one_shelved(store_id, file_id)

    def batch(self, store_id: str, batch_id: str) -> Batch:
        """One batch; raises `NotFound`."""
        return self.catalog.batch(store_id, batch_id)

    def describe(self, store_id: str, file_id: str, attributes: Mapping[str, Attribute]) -> Shelved:
        """Say other things of a file in a store; raises `NotFound`."""
        self.catalog.describe(store_id, file_id, attributes)
        return self.catalog.one_shelved(store_id, file_id)

    def take_out(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store; from now on it is not found there. Raises `NotFound`."""
        self.catalog.take_out(store_id, file_id)
        self._wake(store_id)

    def text_of(self, store_id: str, file_id: str) -> str:
        """The text that was read of a file: what the places of passages count in.

        Raises:
            NotFound: there is no such file in the store.
            InputError: it is not indexed.
        """
        one = self.catalog.one_shelved(store_id, file_id)
        if one.state != COMPLETED:
            raise InputError(f"file {file_id} is not indexed: its status is {one.state}. Wait, or see why.")
        return extract_of(one.filename, self.catalog.content(file_id)).text

    def search(
        self, store_id: str, query: str, max_results: int, only: Filter | None = None
    ) -> list[FileHit]:
        """The best passages of the files that a filter admits, one of each part of a file, best first.

        Raises:
            NotFound: there is no such store.
            EmptyInput, InputTooLong, InputError: the query can't be asked.
            IndexFault: the index is damaged; it is being made again.
        """
        files = self.catalog.shelved(store_id)
        permitted = {
            one.id: one
            for one in files
            if one.state == COMPLETED and (only is None or only.admits(one.attributes))
        }
        if not any(one.state == COMPLETED for one in files):
            return []
        return self._searched(store_id).search(query, max_results, permitted)

    def _searched(self, store_id: str) -> FileSearch:
        with self._lock:
            found = self._open.get(store_id)
            if found is not None:
                self._open.move_to_end(store_id)
                return found
            try:
                found = FileSearch(open_uploads(self.index_path(store_id), self._embedder), self._embedder)
            except IndexFault as fault:
                self.catalog.again(store_id)
                self._wake(store_id)
                raise IndexFault(
                    f"the index of {store_id} can't be used, and is being made again of its files. Retry."
                ) from fault
            self._open[store_id] = found
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
            return found


def _checked(filename: str) -> str:
    """A name that is one: no path, nothing that terminals or headers take for something else."""
    if not filename.strip() or filename in (".", ".."):
        raise InputError("the file has no name. Give it one that ends as its format does, such as notes.md.")
    if len(filename) > MAX_FILENAME:
        raise InputError(
            f"the file's name has {len(filename)} characters; the limit is {MAX_FILENAME}. Shorten it."
        )
    if PurePath(filename).name != filename or "\\" in filename or not filename.isprintable():
        raise InputError(
            f"{filename!r} is no plain name of a file. Leave out folders and control characters."
        )
    return filename
