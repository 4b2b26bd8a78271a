"""Serve code completion to an editor over standard input and output. Knows nothing of the protocol.

The model is loaded while the editor is already answered; nothing but messages may reach standard output.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial

from cynosure.cli.editor.filling import Filler
from cynosure.cli.editor.language_server import Session, build_server
from cynosure.cli.editor.model_arguments import add_model_arguments, remote_filler
from cynosure.cli.editor.proposals import Proposals
from cynosure.core.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whose model proposes, and what it may."""
    add_model_arguments(parser)
    parser.add_argument("--dtype", default="auto", help="of a model in this process (auto)")
    parser.add_argument("--stdio", action="store_true", help="what many editors add; there is no other way")


def run(arguments: argparse.Namespace) -> int:
    """Answer until the editor leaves; 0 where it said so before.

    Raises:
        InputError: the options do not go together.
    """
    load = _loader(arguments)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    session = Session(Proposals(load, any_names=arguments.any_names))
    try:
        build_server(session).start_io(sys.stdin.buffer, out)
    finally:
        session.proposals.close()
    return 0 if session.is_over else 1


def _loader(arguments: argparse.Namespace) -> Callable[[], Filler]:
    if arguments.url is not None:
        if arguments.dtype != "auto":
            raise InputError("--dtype is of a model in this process; the server chose its own. Leave it out.")
        filler = remote_filler(arguments)
        return lambda: filler
    return partial(_load, arguments.model, arguments.dtype)


def _load(source: str | None, dtype: str) -> Filler:
    # With it comes torch, which takes longer to import than an editor waits for its first answer.
    return importlib.import_module("cynosure.cli.editor.local_filler").load_filler(source, dtype)
