"""Read from options whether uploaded files are kept, where and how many. Opens nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from cynosure.cli.home import files_home
from cynosure.cli.library import FilesOptions
from cynosure.cli.serve_models import num_bytes
from cynosure.core.errors import InputError
from cynosure.retrieval.library import LibraryLimits


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where uploaded files are kept, and how many."""
    group = parser.add_argument_group("files that clients upload")
    group.add_argument("--files-dir", type=Path, metavar="FOLDER", help="where they are kept")
    group.add_argument("--files-bytes", type=num_bytes, metavar="SIZE", help="of each key's (1GiB)")
    group.add_argument("--without-files", action="store_true", help="take none")


def files_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> FilesOptions | None:
    """What is asked; None where no files are taken.

    Raises:
        InputError: options that contradict each other.
    """
    folder, size = arguments.files_dir, arguments.files_bytes
    if arguments.without_files or arguments.without_docs:
        if folder is not None or size is not None:
            flag = "--without-files" if arguments.without_files else "--without-docs"
            raise InputError(f"{flag} takes no files, and --files-dir or --files-bytes is given. Drop one.")
        return None
    if size is not None and size < 1:
        raise InputError(f"--files-bytes is {size}; at least 1 is needed. Raise it, or say --without-files.")
    return FilesOptions(
        files_home(environ) if folder is None else folder.expanduser().absolute(),
        LibraryLimits().max_bytes if size is None else size,
        is_named=folder is not None,
    )
