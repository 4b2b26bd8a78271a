"""Read from options what is kept of what answers attended to, and open where. Keeps nothing itself."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.serve_models import num_bytes
from cynosure.core.errors import InputError
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.attended.trace_folder import FolderLimits, TraceFolder
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper, in_memory

_MAX_DAYS = 36_525.0


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where traces are kept, how much they hold, and how long."""
    limits = FolderLimits()
    group = parser.add_argument_group("traces of what answers attended to")
    group.add_argument(
        "--traces", type=Path, metavar="FOLDER", help="keep them of all answers, in Parquet files"
    )
    group.add_argument(
        "--trace-level",
        choices=[level.word for level in TraceLevel],
        help="the most that they hold: L0 shares by role, L1 also by part and token (with --traces), L2 also "
        "token ids, L3 also texts (in memory)",
    )
    group.add_argument("--trace-days", type=float, metavar="DAYS", help=f"kept so long ({limits.days:g})")
    group.add_argument("--trace-max-bytes", type=num_bytes, metavar="SIZE", help="kept in all (1GiB)")
    group.add_argument(
        "--trace-text-hours", type=float, metavar="H", help=f"texts are kept so long ({limits.text_hours:g})"
    )


def with_traces(options: ServeOptions, arguments: argparse.Namespace) -> ServeOptions:
    """The same options, that watch every answer where traces are kept of every answer."""
    if arguments.traces is None:
        return options
    return replace(options, insight=replace(options.insight, is_always=True))


def traces_of(arguments: argparse.Namespace) -> TraceKeeper:
    """What keeps traces; a folder is open from here on.

    Raises:
        InputError: options that contradict each other, or a limit that keeps nothing.
        EnvironmentFault: the folder can't be had.
        MissingPackage: pyarrow is not installed.
    """
    folder, is_audited = arguments.traces, not arguments.no_audit
    named = {
        "--trace-days": arguments.trace_days,
        "--trace-max-bytes": arguments.trace_max_bytes,
        "--trace-text-hours": arguments.trace_text_hours,
    }
    for flag, value in named.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{flag} is {value:g}; it must be above 0. Raise it, or say --trace-level off.")
    level = None if arguments.trace_level is None else TraceLevel.of(arguments.trace_level)
    if level is TraceLevel.L3 and not is_audited:
        raise InputError(
            "--trace-level L3 keeps texts, and --no-audit leaves unwritten who reads them. Leave --no-audit "
            "out, or choose L2."
        )
    limits = FolderLimits()
    hours = limits.text_hours if arguments.trace_text_hours is None else arguments.trace_text_hours
    if folder is None:
        for flag in ("--trace-days", "--trace-max-bytes"):
            if named[flag] is not None:
                raise InputError(f"{flag} is of files, and there are none. Add --traces FOLDER, or drop it.")
        most = in_memory(is_audited=is_audited).level if level is None else level
        return TraceKeeper(KeeperSettings(level=most, text_hours=hours))
    if level is TraceLevel.OFF:
        raise InputError("--trace-level off keeps nothing in --traces FOLDER. Drop one.")
    limits = FolderLimits(
        days=min(_MAX_DAYS, limits.days if arguments.trace_days is None else arguments.trace_days),
        max_bytes=limits.max_bytes if arguments.trace_max_bytes is None else arguments.trace_max_bytes,
        text_hours=hours,
    )
    settings = KeeperSettings(level=TraceLevel.L1 if level is None else level, text_hours=hours)
    return TraceKeeper(settings, TraceFolder(folder.expanduser().absolute(), limits))
