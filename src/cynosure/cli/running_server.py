"""Ask a server that runs, for a command on the terminal. Knows no route."""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from cynosure.core.errors import EnvironmentFault, InputError, NotFound

KEY_VARIABLE = "CYNOSURE_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 120.0


def add_server_arguments(parser: argparse.ArgumentParser, key: str) -> None:
    """Declare where it is, and `key`, whose it takes."""
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server ({DEFAULT_URL})")
    parser.add_argument("--api-key", metavar="KEY", help=f"{key} (or {KEY_VARIABLE})")


def asked(arguments: argparse.Namespace, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What it answers to GET, or with a body to POST.

    Raises:
        NotFound: it has no such thing, or does not tell this key.
        InputError: it refuses, or the address is none.
        EnvironmentFault: nobody answers there.
    """
    url = arguments.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url is {arguments.url!r}; it begins with http:// or https://. Correct it.")
    headers = {"Content-Type": "application/json"}
    key = arguments.api_key or os.environ.get(KEY_VARIABLE)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as fault:
        with fault:
            told = NotFound if fault.code == 404 else InputError
            raise told(_refusal(fault)) from fault
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
