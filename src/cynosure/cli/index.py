"""Build, rebuild or describe the index from the terminal. Knows nothing of questions."""

from __future__ import annotations

import argparse

from cynosure.cli.documentation import add_index_argument, open_documentation, path_of, rebuild_documentation
from cynosure.cli.local_embedder import load_local_embedder
from cynosure.cli.python_docs import open_python_docs
from cynosure.core.errors import IndexFault

ACTIONS = ("build", "rebuild", "status")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to do."""
    parser.add_argument(
        "action", choices=ACTIONS, help="build where needed, build anew, or say what there is"
    )
    add_index_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; `status` fails where there is no index that can be used."""
    if arguments.action == "rebuild":
        docs = rebuild_documentation(arguments)
    elif arguments.action == "build":
        docs = open_documentation(arguments)
    else:
        docs = open_python_docs(path_of(arguments), load_local_embedder(), _refuse)
    print(f"{docs.title}: {docs.num_documents} objects, {docs.num_passages} passages")
    print(f"{path_of(arguments)}: {docs.num_bytes / 2**20:.1f} MiB")
    return 0


def _refuse(stage: str, done: int, total: int) -> None:
    raise IndexFault("there is no index that can be used. Run `cynosure index build`.")
