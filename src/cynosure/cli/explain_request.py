"""Fetch from a server how a request went and what its answers attended to. Draws nothing."""

from __future__ import annotations

import argparse
import json
import urllib.parse
from typing import Any

from rich.console import Console

from cynosure.cli.explain_trace import TraceDrawing
from cynosure.cli.running_server import add_server_arguments, asked
from cynosure.core.errors import NotFound

Json = dict[str, Any]


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the request, the server, and what is shown of it."""
    parser.add_argument("request", nargs="?", metavar="REQUEST_ID", help="the X-Request-Id of an answer")
    add_server_arguments(parser, "an API key of the server")
    parser.add_argument(
        "--group", default="all", metavar="NAME", help="heads of this group (all watched ones)"
    )
    parser.add_argument("--tokens", action="store_true", help="also a table of all watched tokens")
    parser.add_argument("--json", action="store_true", help="as the server tells it")


def explain_request(arguments: argparse.Namespace) -> int:
    """Print how a request went, and what its answers attended to.

    Raises:
        InputError: the server refuses, or an argument is none that can be used.
        NotFound: it knows nothing of such a request.
        EnvironmentFault: nobody answers there.
    """
    trace = _told(arguments, f"/v1/traces/{_quoted(arguments.request)}")
    went = _told(arguments, f"/v1/requests/{_quoted(arguments.request)}/explain")
    if trace is None and went is None:
        raise NotFound(
            f"the server keeps nothing of a request {arguments.request[:128]!r} of yours. Take the id from "
            "the X-Request-Id of an answer."
        )
    console = Console(highlight=False, soft_wrap=False)
    if arguments.json:
        console.print_json(json.dumps({"request": went, "trace": trace}))
        return 0
    drawing = TraceDrawing(console, arguments.group, with_tokens=arguments.tokens)
    if went is not None:
        drawing.draw_request(went)
    for answer in () if trace is None else trace["answers"]:
        drawing.draw_answer(answer)
    if trace is None:
        console.print(
            'No trace of it is kept. Ask with "attention", or start the server with --traces FOLDER.',
            style="dim",
        )
    return 0


def _quoted(request_id: str) -> str:
    return urllib.parse.quote(request_id, safe="")


def _told(arguments: argparse.Namespace, path: str) -> Json | None:
    """What a server answers; None where there is no such thing, or it does not tell it."""
    try:
        return asked(arguments, path)
    except NotFound:
        return None
