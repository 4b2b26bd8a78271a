"""Find the command that was asked for and run it. Knows nothing of what commands do.

A command is a module with `add_arguments` and `run`. It is imported when it is asked for, so that
`cynosure --help` needs no torch. A failure of our own tree is one line on standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import cynosure
from cynosure.core.errors import CynosureError

FAILED, INTERRUPTED = 1, 130

#: Packages that are not of the base, and what installs them.
EXTRAS: Mapping[str, str] = {
    "fastapi": "server",
    "msgpack": "server",
    "starlette": "server",
    "uvicorn": "server",
    "prometheus_client": "server",
    "apsw": "retrieval",
    "lsprotocol": "lsp",
    "pygls": "lsp",
}


@dataclass(frozen=True)
class Command:
    """Where a command lives, and what it does in a few words."""

    module: str
    summary: str


class CommandModule(Protocol):
    """What a command's module holds."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit status."""
        ...


COMMANDS: Mapping[str, Command] = {
    "serve": Command("cynosure.cli.serve", "answer questions, embeddings and completions over HTTP"),
    "ask": Command("cynosure.cli.ask", "ask the documentation of this Python, or own documents; get quotes"),
    "search": Command("cynosure.cli.search", "list the best passages for a query, whatever their score"),
    "index": Command("cynosure.cli.index", "index own files; build or describe that of the documentation"),
    "chat": Command("cynosure.cli.chat", "converse with a model from a folder"),
    "complete": Command("cynosure.cli.complete", "fill in at FILE:LINE, or continue a prompt"),
    "lsp": Command("cynosure.cli.lsp", "complete code in an editor, over standard input and output"),
    "bench": Command("cynosure.cli.bench", "measure how fast a checkpoint or a running server answers"),
    "quantize": Command("cynosure.cli.quantize", "write a checkpoint again with weights of 8 or 4 bits"),
    "eval": Command("cynosure.cli.eval", "measure how well a model predicts, and what quantising costs"),
    "train": Command("cynosure.cli.train", "train a small model on the text of this Python"),
    "explain": Command("cynosure.cli.explain", "show what an answer attended to, or what a mask allows"),
    "profile": Command("cynosure.cli.profile", "find which heads of a model retrieve, copy or idle"),
    "drift": Command("cynosure.cli.drift", "show how far answers of a server moved, or freeze a reference"),
    "audit": Command("cynosure.cli.audit", "check the chain of the audit log"),
    "doctor": Command("cynosure.cli.doctor", "say what this machine has and what is missing"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cynosure` and return its exit status: 0, 1 for a failure, 2 for wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given)
    except CynosureError as failure:
        return _failed(str(failure))
    except ModuleNotFoundError as failure:
        package = (failure.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        return _failed(
            f"this command needs the package {package}, which is not installed. "
            f"Run `pip install 'cynosure[{EXTRAS[package]}]'`."
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not write there again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(given: Sequence[str]) -> int:
    chosen = next((word for word in given if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="cynosure", description="Models with attention that you can see, cite and control."
    )
    parser.add_argument("--version", action="version", version=f"cynosure {cynosure.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = None
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name, help=command.summary, description=f"{command.summary[0].upper()}{command.summary[1:]}."
        )
        if name == chosen:
            module = cast(CommandModule, importlib.import_module(command.module))
            module.add_arguments(one)
    parsed = parser.parse_args(given)
    assert module is not None, "argparse refuses what is no command"
    return module.run(parsed)


def _failed(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
