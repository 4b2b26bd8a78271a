"""Build, rebuild or describe the indexes from the terminal. Knows nothing of questions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from cynosure.cli.documentation import (
    folder_of,
    open_documentation,
    path_of,
    rebuild_documentation,
)
from cynosure.cli.index_argument import add_index_argument
from cynosure.cli.loading_bar import LoadingBar
from cynosure.cli.local_embedder import load_local_embedder
from cynosure.cli.own_docs import index_own_docs, open_own_store, own_index_path
from cynosure.cli.python_docs import open_python_docs
from cynosure.core.errors import IndexFault, InputError
from cynosure.retrieval.files import Change, indexed_files

ACTIONS = ("build", "rebuild", "status")

#: Files that are told one by one; the others are counted.
_TOLD = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to do, or what to index."""
    parser.add_argument(
        "what",
        nargs="+",
        metavar="PATH",
        help="folders and files to index; or `build`, `rebuild` or `status` for the documentation of this "
        "Python (a folder of such a name is ./build)",
    )
    parser.add_argument(
        "--forget", action="store_true", help="drop these paths from the index of own documents"
    )
    parser.add_argument(
        "--skip-faulty", action="store_true", help="leave out files that can't be read, and say which"
    )
    add_index_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; `status` fails where there is no index that can be used."""
    if arguments.what[0] not in ACTIONS:
        return _index_files(arguments)
    if len(arguments.what) > 1 or arguments.forget or arguments.skip_faulty:
        raise InputError(
            f"`{arguments.what[0]}` stands alone. For a folder of that name, write ./ before it."
        )
    action = arguments.what[0]
    if action == "rebuild":
        docs = rebuild_documentation(arguments)
    elif action == "build":
        docs = open_documentation(arguments)
    else:
        docs = open_python_docs(path_of(arguments), load_local_embedder(), _refuse, arguments.reference)
    print(f"{docs.title}: {docs.num_documents} objects, {docs.num_passages} passages")
    print(f"{path_of(arguments)}: {docs.num_bytes / 2**20:.1f} MiB")
    own = own_index_path(folder_of(arguments))
    if action == "status" and own.exists():
        _describe(own)
    return 0


def _index_files(arguments: argparse.Namespace) -> int:
    path = own_index_path(folder_of(arguments))
    named = [Path(one) for one in arguments.what]
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        change = index_own_docs(
            path,
            named,
            load_local_embedder(),
            bar.show,
            forgets=arguments.forget,
            skips_faulty=arguments.skip_faulty,
        )
    _tell(change)
    _describe(path)
    return 0


def _tell(change: Change) -> None:
    counts = (
        f"{len(change.added)} files added, {len(change.changed)} changed, {change.kept} unchanged, "
        f"{len(change.dropped)} dropped"
    )
    print(counts)
    for what, names in (("format not read", change.left_out), ("left out", change.faults)):
        for name in names[:_TOLD]:
            print(f"{what}: {name}")
        if len(names) > _TOLD:
            print(f"{what}: {len(names) - _TOLD} more")


def _describe(path: Path) -> None:
    store = open_own_store(path, load_local_embedder())
    roots, count = indexed_files(store)
    contents = store.contents
    print(f"Own documents: {count} files, {len(contents.entries)} parts, {len(contents.passages)} passages")
    print(f"of {os.pathsep.join(map(str, roots)) or 'no path'}")
    print(f"{path}: {store.num_bytes / 2**20:.1f} MiB")
    store.close()


def _refuse(stage: str, done: int, total: int) -> None:
    raise IndexFault("there is no index that can be used. Run `cynosure index build`.")
