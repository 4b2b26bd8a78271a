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

#: How many servers of one user may keep a log at one time without being told where.
MAX_FOLDERS = 32


def audit_folder(environ: Mapping[str, str]) -> Path:
    """`audit` in `$CYNOSURE_HOME`, else in the user's state (XDG): unlike a cache, it can't be rebuilt."""
    if environ.get("CYNOSURE_HOME"):
        return Path(environ["CYNOSURE_HOME"]).expanduser().absolute() / "audit"
    state = environ.get("XDG_STATE_HOME", "")
    home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return home / "cynosure" / "audit"


def audit_folders(environ: Mapping[str, str]) -> list[Path]:
    """The default folder, then those below it that servers which run beside the first take: `2`, `3`, ..."""
    first = audit_folder(environ)
    return [first, *(first / str(number) for number in range(2, MAX_FOLDERS + 1))]


def written_logs(environ: Mapping[str, str]) -> list[Path]:
    """The logs in the default folders; also one of which nothing but its head is left."""
    logs = [folder / LOG_NAME for folder in audit_folders(environ)]
    return [log for log in logs if log.exists() or log.with_name(f"{LOG_NAME}.head").exists()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to check, and with which key."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "verify", help="follow the chain; name the first record that is not as written"
    )
    check.add_argument("--log", type=Path, metavar="FILE", help="one log (all in the state folder)")
    check.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"its key ({KEY_NAME} beside it, or ${KEY_VARIABLE})"
    )
    check.add_argument("--json", action="store_true", help="print all fields")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, a log after another; fail where a record is not as it was written."""
    default = audit_folder(os.environ) / LOG_NAME
    logs = [arguments.log] if arguments.log else written_logs(os.environ) or [default]
    is_intact = True
    for log in logs:
        found = verify(log, read_key(os.environ, arguments.key_file or log.with_name(KEY_NAME)))
        is_intact = is_intact and found.is_intact
        if arguments.json:
            print(json.dumps({"log": str(log), "is_intact": found.is_intact, **asdict(found)}))
        else:
            print("\n".join([*([f"{log}:"] if len(logs) > 1 else []), *told(found)]))
    return 0 if is_intact else 1


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
