"""Read who may call from options and the environment. Opens no port."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import MutableMapping
from pathlib import Path

from cynosure.cli.home import data_home
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.access.tenants import read_secret
from cynosure.server.admission import Admission

KEYS_VARIABLE = "CYNOSURE_API_KEYS"
SECRET_FILE = "tenant-secret"


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where keys are."""
    group = parser.add_argument_group("who may call")
    group.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help=f"who may call: one name:key a line (or {KEYS_VARIABLE}); read again as it changes",
    )
    group.add_argument("--allow-open", action="store_true", help="let others on the network in without a key")


def admission_of(arguments: argparse.Namespace, environ: MutableMapping[str, str]) -> Admission:
    """Whom to let in. Keys are taken out of the environment, so that no child process inherits them.

    Raises:
        InputError: a file or a line that can't be used.
    """
    given = environ.pop(KEYS_VARIABLE, "")
    keys = parse_keys(given.replace(",", "\n"), KEYS_VARIABLE)
    ring = KeyRing(keys, arguments.api_keys)
    if ring.is_open:
        return Admission(ring)
    if arguments.api_keys is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda *_: ring.look_again())
    return Admission(ring, read_secret(data_home(environ) / SECRET_FILE))
