"""Open the place where uploaded files are kept, as options say. Knows nothing of arguments or HTTP."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval import Embedder
from cynosure.retrieval.library import Library, LibraryLimits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilesOptions:
    """Where uploaded files are kept, and how many bytes of them for each key.

    - `is_named`: whether the folder was asked for by name, so that it must be had.
    """

    folder: Path
    max_bytes: int = LibraryLimits().max_bytes
    is_named: bool = False


def open_library(options: FilesOptions | None, embedder: Embedder) -> Library | None:
    """Take the folder, so that it is known at the start whether files are kept.

    Returns:
        None where none are, also since another server has the folder that nobody named.

    Raises:
        EnvironmentFault: the folder that was named can't be had.
    """
    if options is None:
        return None
    library = Library(options.folder, embedder, LibraryLimits(max_bytes=options.max_bytes))
    try:
        library.hold()
    except EnvironmentFault as fault:
        if options.is_named:
            raise
        _log.warning("uploads are not taken: %s", fault)
        return None
    return library
