"""Declare whose model fills in, in this process or behind an address. Loads nothing."""

from __future__ import annotations

import argparse
import os

from cynosure.cli.editor.remote_filler import RemoteFiller
from cynosure.pack import CORE_LM

KEY_VARIABLE = "OPENAI_API_KEY"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, server and which names are allowed."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a checkpoint's folder, a GGUF file, or a hub id; with --url, what the server calls it "
        f"(the pack's {CORE_LM})",
    )
    parser.add_argument("--url", help="of a running server that computes, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--any-names", action="store_true", help="let proposals use names that no file or module has"
    )


def remote_filler(arguments: argparse.Namespace) -> RemoteFiller:
    """The server at `--url`; its key comes from the environment.

    Raises:
        InputError: the address is not plain HTTP.
    """
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return RemoteFiller(arguments.url, arguments.model or CORE_LM, headers)
