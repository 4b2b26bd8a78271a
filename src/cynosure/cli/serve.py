"""Start the server, and say on the terminal how far it is. Knows nothing of what it answers."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

from rich.console import Console

from cynosure.cli.assembly import assemble
from cynosure.cli.home import data_home
from cynosure.cli.index_argument import add_index_argument
from cynosure.cli.loading_bar import LoadingBar
from cynosure.cli.serve_access import add_access_arguments, admission_of
from cynosure.cli.serve_adapters import add_adapter_arguments, with_adapters
from cynosure.cli.serve_auditor import add_auditor_arguments, auditor_of
from cynosure.cli.serve_drift import (
    add_drift_arguments,
    checked,
    drift_of,
    sentinels_of,
    with_drift,
)
from cynosure.cli.serve_files import add_file_arguments, files_of
from cynosure.cli.serve_insight import add_insight_arguments, with_insight
from cynosure.cli.serve_logs import add_log_arguments, configure_logs
from cynosure.cli.serve_models import add_model_arguments, options_of
from cynosure.cli.serve_oversight import add_oversight_arguments, oversight_of
from cynosure.cli.serve_traces import with_traces
from cynosure.core.errors import InputError
from cynosure.server.admission import check_exposure
from cynosure.server.listening import listen, take_port
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to listen and what to serve."""
    group = parser.add_argument_group("where")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    group.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (8000)")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name we go by; repeatable"
    )
    group.add_argument(
        "--shutdown-timeout",
        type=float,
        default=8.0,
        metavar="SECONDS",
        help="how long answers under way may take to end at SIGTERM (8)",
    )
    add_model_arguments(parser)
    add_adapter_arguments(parser)
    docs = parser.add_argument_group("the documentation of this Python")
    add_index_argument(docs)
    docs.add_argument("--without-docs", action="store_true", help="serve only the models that are named")
    docs.add_argument(
        "--documents",
        action="store_true",
        help="also serve what `cynosure index PATH` read, to whoever may ask this server",
    )
    add_file_arguments(parser)
    add_access_arguments(parser)
    add_oversight_arguments(parser)
    add_insight_arguments(parser)
    add_auditor_arguments(parser)
    add_drift_arguments(parser)
    add_log_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    if not 0 <= arguments.port <= 65535:
        raise InputError(f"--port is {arguments.port}; a port is from 0 to 65535. Take another.")
    if not 1 <= arguments.shutdown_timeout <= 3600:
        raise InputError(
            f"--shutdown-timeout is {arguments.shutdown_timeout}; it may be 1 to 3600. Change it."
        )
    options = replace(options_of(arguments, data_home(os.environ)), with_own_docs=arguments.documents)
    options = with_adapters(replace(options, files=files_of(arguments, os.environ)), arguments)
    # Whoever names models gets these alone, and the documentation.
    with_pack = not options.models and not arguments.without_docs
    options = replace(options, reference=arguments.reference, with_pack=with_pack)
    options = with_traces(with_insight(options, arguments, os.environ), arguments)
    options = with_drift(options, arguments)
    if arguments.without_docs and not options.models:
        raise InputError("--without-docs leaves nothing to serve. Name a model, or leave it out.")
    if arguments.without_docs and arguments.documents:
        raise InputError("--documents needs the index's embedder, which --without-docs leaves out. Drop one.")
    configure_logs(arguments)
    settings = ServerSettings(
        host=arguments.host,
        port=arguments.port,
        allowed_hosts=tuple(map(str.lower, arguments.allow_host)),
        stop_timeout_s=arguments.shutdown_timeout,
    )
    admission, auditor = admission_of(arguments, os.environ), auditor_of(arguments)
    drift, sentinels = drift_of(arguments), sentinels_of(arguments)
    check_exposure(settings, admission.ring, is_allowed=arguments.allow_open)
    # Before anything slow: whether we may listen is known in the first moment.
    listener = take_port(settings)
    settings = replace(settings, port=listener.getsockname()[1])
    console = Console(stderr=True, highlight=False)
    console.print(f"Cynosure listens at [bold]{settings.url}[/]")
    if not settings.is_loopback and admission.ring.is_open:
        console.print("Others can reach it, and nobody is asked for a key: use a network that you trust.")
    tell = partial(console.print, soft_wrap=True)
    with ExitStack() as ending:
        ending.enter_context(closing(listener))
        oversight = ending.enter_context(closing(oversight_of(arguments, os.environ, tell)))
        oversight = replace(oversight, auditor=auditor, drift=drift, sentinels=sentinels)
        bar = ending.enter_context(LoadingBar(console))
        runtime = Runtime(checked(partial(assemble, options), drift), watch=bar.show)
        when_ready = partial(bar.finish, settings.url)
        listen(
            listener, runtime, settings, when_ready, partial(tell, _stopping(settings)), admission, oversight
        )
    return 0


def _stopping(settings: ServerSettings) -> str:
    wait = f"{settings.stop_timeout_s:g} s"
    return f"Stopping: answers under way get {wait} to end. Ctrl-C again ends them now."
