"""Read who watches what is served, from options, files and the environment. Watches nothing itself."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

import cynosure
from cynosure.cli.audit import KEY_NAME, LOG_NAME, MAX_FOLDERS, audit_folders
from cynosure.cli.serve_traces import add_trace_arguments, traces_of
from cynosure.core.errors import AuditInUse, InputError
from cynosure.guard import (
    CALLS,
    KEY_VARIABLE,
    AuditLog,
    AuditSettings,
    Policy,
    read_or_create_key,
    read_policy,
)
from cynosure.observe.spans import SpanWriter, otlp_writer
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight

#: By which OpenTelemetry's own programs name a collector.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def add_oversight_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the guard's policy, where the audit log is, and where spans go."""
    group = parser.add_argument_group("guard, audit and spans")
    guard = group.add_mutually_exclusive_group()
    guard.add_argument(
        "--guard", type=Path, metavar="FILE", help="what the guard does with what it finds (TOML)"
    )
    guard.add_argument("--no-guard", action="store_true", help="look for nothing in what is served")
    audit = group.add_mutually_exclusive_group()
    audit.add_argument(
        "--audit", type=Path, metavar="FOLDER", help="where the audit log is kept (the user's state)"
    )
    audit.add_argument("--no-audit", action="store_true", help="keep no audit log")
    group.add_argument(
        "--audit-sync-every",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds of records that a power cut may take (0: none; each waits for the disk)",
    )
    group.add_argument(
        "--otlp-traces-endpoint", metavar="URL", help=f"collector of spans, over HTTP (or {ENDPOINTS[1]})"
    )
    add_trace_arguments(parser)


def oversight_of(
    arguments: argparse.Namespace,
    environ: MutableMapping[str, str],
    tell: Callable[[str], None] = lambda told: None,
) -> Oversight:
    """Who watches. The audit log is open from here on, and its key no longer in the environment.

    Where the default log is another server's, the next folder's is taken, and `tell` is told.

    Raises:
        InputError: a policy that can't be used.
        AuditFault: the audit log can't be written, or is another process's.
        EnvironmentFault: traces can't be kept where they are to be.
        MissingPackage: spans or traces are asked for, and what makes them is not installed.
    """
    if not arguments.audit_sync_every >= 0:
        raise InputError(
            f"--audit-sync-every is {arguments.audit_sync_every}; it is 0 seconds or more. Raise it."
        )
    policy = None if arguments.no_guard else _policy(arguments.guard)
    spans = _spans(arguments.otlp_traces_endpoint, environ)
    traces = traces_of(arguments)
    audit = None if arguments.no_audit else _audit(arguments, environ, tell)
    return Oversight(policy, audit, spans, traces=traces)


def _policy(file: Path | None) -> Policy:
    if file is None:
        return Policy()
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InputError(
            f"guard policy {file} can't be read: {fault.strerror}. Name another file."
        ) from fault
    except ValueError as fault:
        raise InputError(f"guard policy {file} is no TOML: {fault}. Correct it.") from fault
    for direction, chosen in settings.items():
        if not isinstance(chosen, dict) or not all(
            isinstance(action, str) or direction == CALLS for action in chosen.values()
        ):
            raise InputError(
                f"guard policy {file}: {direction} is no table of kinds and actions. "
                f'Write [{direction}] and, below it, lines such as card = "block".'
            )
    return read_policy(settings)


def _audit(
    arguments: argparse.Namespace, environ: MutableMapping[str, str], tell: Callable[[str], None]
) -> AuditWriter:
    settings = AuditSettings(sync_every_s=arguments.audit_sync_every)
    folders = [arguments.audit] if arguments.audit else audit_folders(environ)
    for folder in folders:
        try:
            log = AuditLog(folder / LOG_NAME, read_or_create_key(environ, folder / KEY_NAME), settings)
        except AuditInUse:
            if folder == arguments.audit:
                raise
            continue
        if folder != folders[0]:
            tell(
                f"Another server writes to the audit log in {folders[0]}; this one keeps its own in {folder}"
            )
        environ.pop(KEY_VARIABLE, None)
        return AuditWriter(log)
    raise AuditInUse(
        f"{MAX_FOLDERS} servers write to audit logs in {folders[0]}, the limit. Name another folder "
        "(--audit FOLDER)."
    )


def _spans(endpoint: str | None, environ: Mapping[str, str]) -> SpanWriter | None:
    if endpoint is None and not any(environ.get(name) for name in ENDPOINTS):
        return None
    return otlp_writer(endpoint, cynosure.__version__)
