"""Fetch from a server how a request went and what its answers attended to. Draws nothing."""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from rich.console import Console

from cynosure.cli.explain_trace import TraceDrawing
from cynosure.core.errors import EnvironmentFault, InputError, NotFound

KEY_VARIABLE = "CYNOSURE_API_KEY"
_TIMEOUT_S = 60.0

Json = dict[str, Any]


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the request, the server, and what is shown of it."""
    parser.add_argument("request", nargs="?", metavar="REQUEST_ID", help="the X-Request-Id of an answer")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (http://127.0.0.1:8000)")
    parser.add_argument("--api-key", metavar="KEY", help=f"an API key of the server (or {KEY_VARIABLE})")
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
    trace = _asked(arguments, f"/v1/traces/{_quoted(arguments.request)}")
    went = _asked(arguments, f"/v1/requests/{_quoted(arguments.request)}/explain")
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


def _asked(arguments: argparse.Namespace, path: str) -> Json | None:
    """What a server answers; None where there is no such thing, or it does not tell it."""
    url = arguments.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url is {arguments.url!r}; it begins with http:// or https://. Correct it.")
    key = arguments.api_key or os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as fault:
        with fault:
            if fault.code == 404:
                return None
            raise InputError(_refusal(fault)) from fault
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(
            f"no Cynosure server answers at {url} ({fault}). Start one (cynosure serve), or name "
            "another (--url)."
        ) from fault


def _refusal(fault: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(fault)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers with status {fault.code}. See its log."
