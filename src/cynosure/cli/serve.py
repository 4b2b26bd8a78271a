"""Start the server, and say on the terminal how far it is. Knows nothing of what it answers."""

from __future__ import annotations

import argparse
import importlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from cynosure.cli.home import data_home
from cynosure.cli.loading_bar import LoadingBar
from cynosure.cli.serve_access import add_access_arguments, admission_of
from cynosure.cli.serve_logs import add_log_arguments, configure_logs
from cynosure.core.errors import InputError
from cynosure.models.tool_calls import ToolFormat
from cynosure.server.admission import check_exposure
from cynosure.server.listening import listen, take_port
from cynosure.server.runtime import Load, Report, Runtime
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to listen and what to serve."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (8000)")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name we go by; repeatable"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]FOLDER",
        help="a decoder for /v1/completions, from a checkpoint's folder; repeatable",
    )
    parser.add_argument(
        "--tool-call-parser",
        choices=[format.value for format in ToolFormat],
        help="how the models write calls of functions (as their chat templates teach)",
    )
    parser.add_argument("--index-dir", type=Path, metavar="FOLDER", help="where the index lies")
    parser.add_argument("--without-docs", action="store_true", help="serve only the models that are named")
    parser.add_argument("--threads", type=int, metavar="N", help="of computing (as many as cores)")
    add_access_arguments(parser)
    add_log_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    if not 0 <= arguments.port <= 65535:
        raise InputError(f"--port is {arguments.port}; a port is from 0 to 65535. Take another.")
    if arguments.threads is not None and arguments.threads < 1:
        raise InputError(f"--threads is {arguments.threads}; at least 1 is needed. Raise it.")
    if arguments.without_docs and not arguments.model:
        raise InputError("--without-docs leaves nothing to serve. Name a --model, or leave it out.")
    configure_logs(arguments)
    settings = ServerSettings(
        host=arguments.host, port=arguments.port, allowed_hosts=tuple(map(str.lower, arguments.allow_host))
    )
    admission = admission_of(arguments, os.environ)
    check_exposure(settings, admission.ring, is_allowed=arguments.allow_open)
    # Before anything slow: whether we may listen is known in the first moment.
    listener = take_port(settings)
    settings = replace(settings, port=listener.getsockname()[1])
    console = Console(stderr=True, highlight=False)
    console.print(f"Cynosure listens at [bold]{settings.url}[/]")
    if not settings.is_loopback and admission.ring.is_open:
        console.print("Others can reach it, and nobody is asked for a key: use a network that you trust.")
    with LoadingBar(console) as bar:
        runtime = Runtime(loading(arguments), watch=bar.show)
        listen(listener, runtime, settings, when_ready=partial(bar.finish, settings.url), admission=admission)
    return 0


def loading(arguments: argparse.Namespace) -> Load:
    """What loads the services; torch is imported when it is called, on the thread that computes."""
    folder = arguments.index_dir or data_home(os.environ) / "index"

    def load(report: Report) -> Services:
        report("Importing torch", 0, 0)
        assembly = importlib.import_module("cynosure.cli.assembly")
        options = assembly.ServeOptions(
            index_folder=folder,
            models=assembly.named_models(arguments.model),
            with_docs=not arguments.without_docs,
            num_threads=arguments.threads,
            tool_format=None
            if arguments.tool_call_parser is None
            else ToolFormat(arguments.tool_call_parser),
        )
        return assembly.assemble(options, report)

    return load
