"""Say which key signs head profiles, and where it is kept. Knows nothing of profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cynosure.cli.audit import audit_folder
from cynosure.core.errors import ProfileError
from cynosure.guard.key_file import KeyKind

#: A machine that only reads profiles is told the key of the one that makes them.
PROFILE_KEY = KeyKind(
    "profile key", "CYNOSURE_PROFILE_KEY", ProfileError, "remove it and make profiles again"
)

_NAME = "profile.key"


def profile_key_path(environ: Mapping[str, str]) -> Path:
    """Beside the audit log's folder, in the user's state: unlike a cache, it can't be rebuilt."""
    return audit_folder(environ).parent / _NAME
