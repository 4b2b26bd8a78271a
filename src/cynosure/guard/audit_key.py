"""Take the key of the audit log from the environment or a file. Never shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cynosure.core.errors import AuditFault
from cynosure.guard.key_file import KeyKind

KEY_VARIABLE = "CYNOSURE_AUDIT_KEY"

_KIND = KeyKind("audit key", KEY_VARIABLE, AuditFault, "start a new log with a new key")


def read_key(environ: Mapping[str, str], path: Path) -> bytes:
    """Read the key: `$CYNOSURE_AUDIT_KEY`, else the file.

    Raises:
        NotFound: There is neither.
        AuditFault: It is no key, or others may read the file.
    """
    return _KIND.read(environ, path)


def read_or_create_key(environ: Mapping[str, str], path: Path) -> bytes:
    """Read the key; where there is none, make one that only its owner can read.

    Raises:
        AuditFault: It is no key, others may read it, or it cannot be written.
    """
    return _KIND.read_or_create(environ, path)
