"""Open the documentation for a command on the terminal. Knows nothing of what the command asks."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from rich.console import Console

from cynosure.cli.home import data_home
from cynosure.cli.loading_bar import LoadingBar
from cynosure.cli.local_embedder import load_local_embedder
from cynosure.cli.local_ranker import packed_ranker
from cynosure.cli.own_docs import NAME as OWN
from cynosure.cli.own_docs import open_own_docs, own_index_path
from cynosure.cli.python_docs import NAME, PythonDocs, build_python_docs, index_path, open_python_docs


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """Declare which index is asked."""
    parser.add_argument(
        "--store",
        choices=(NAME, OWN),
        default=NAME,
        help=f"the documentation of this Python, or what `cynosure index PATH` read ({NAME})",
    )


def folder_of(arguments: argparse.Namespace) -> Path:
    """Where indexes lie."""
    return arguments.index_dir or data_home(os.environ) / "index"


def path_of(arguments: argparse.Namespace) -> Path:
    """The index's file."""
    return index_path(folder_of(arguments))


def open_documentation(arguments: argparse.Namespace) -> PythonDocs:
    """Open the index; where there is none that fits, build it with a bar on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        embedder = load_local_embedder()
        path = path_of(arguments)
        return open_python_docs(path, embedder, bar.show, arguments.reference, packed_ranker())


def open_store(arguments: argparse.Namespace) -> PythonDocs:
    """Open the index that `--store` names; one's own documents are never indexed unasked."""
    if arguments.store == NAME:
        return open_documentation(arguments)
    return open_own_docs(own_index_path(folder_of(arguments)), load_local_embedder(), packed_ranker())


def rebuild_documentation(arguments: argparse.Namespace) -> PythonDocs:
    """Build the index whether or not there is one."""
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        embedder = load_local_embedder()
        build_python_docs(path_of(arguments), embedder, bar.show, arguments.reference)
        return open_python_docs(path_of(arguments), embedder, bar.show, arguments.reference)
