"""Check the audit log on the terminal. Changes nothing, and makes no key."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cynosure.guard import KEY_VARIABLE, Verification, read_key, verify

LOG_NAME, KEY_NAME = "audit.jsonl", "audit.key"


def audit_folder(environ: Mapping[str, str]) -> Path:
    """`audit` in `$CYNOSURE_HOME`, else in the user's state (XDG): unlike a cache, it can't be rebuilt."""
    if environ.get("CYNOSURE_HOME"):
        return Path(environ["CYNOSURE_HOME"]).expanduser().absolute() / "audit"
    state = environ.get("XDG_STATE_HOME", "")
    home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return home / "cynosure" / "audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to check, and with which key."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "verify", help="follow the chain; name the first record that is not as written"
    )
    check.add_argument("--log", type=Path, metavar="FILE", help=f"the log ({LOG_NAME} in the state folder)")
    check.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"its key ({KEY_NAME} beside it, or ${KEY_VARIABLE})"
    )
    check.add_argument("--json", action="store_true", help="print all fields")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; fail where a record is not as it was written."""
    log = arguments.log or audit_folder(os.environ) / LOG_NAME
    found = verify(log, read_key(os.environ, arguments.key_file or log.with_name(KEY_NAME)))
    if arguments.json:
        print(json.dumps({"is_intact": found.is_intact, **asdict(found)}))
    else:
        print("\n".join(told(found)))
    return 0 if found.is_intact else 1


def told(found: Verification) -> list[str]:
    """The result in sentences."""
    if found.broken:
        broken = found.broken
        return [
            f"BROKEN at record {broken.seq} ({broken.file}, line {broken.line}): {broken.why}",
            f"records before it, all as they were written: {found.num_records}",
        ]
    lines = [f"intact: {found.num_records} records, the last with code {found.last.mac[:16]}…"]
    if found.torn_bytes:
        lines.append(f"{found.torn_bytes} bytes behind it were torn by a crash; the next start cuts them off")
    return lines
