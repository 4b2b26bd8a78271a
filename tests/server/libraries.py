"""Serve a library of uploaded files over a bag of words, for tests of what is uploaded. Asserts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cynosure.retrieval.library import Library, LibraryLimits
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings
from tests.retrieval.fakes import BagOfWords
from tests.server.fakes import services, serving

LIMITS = LibraryLimits(max_file_bytes=2000, max_files=40, max_bytes=20_000, max_stores=20)
SETTINGS = ServerSettings(port=0, max_upload_bytes=4000)


def with_library(made: Services, folder: Path, embedder: BagOfWords | None = None) -> Services:
    """The same services, with a library in a folder."""
    return replace(made, library=Library(folder, embedder or BagOfWords(), LIMITS))


@contextmanager
def library_served(
    folder: Path,
    lines: str = "",
    embedder: BagOfWords | None = None,
    oversight: Oversight | None = None,
) -> Iterator[str]:
    """A real server that keeps files, for the keys in `lines`."""
    admission = Admission(KeyRing(parse_keys(lines, "the test")) if lines else None)
    made = with_library(services(), folder, embedder)
    with serving(lambda _: made, SETTINGS, admission=admission, oversight=oversight) as url:
        yield url
