"""Take the key of the audit log from the environment or a file. Never shows it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cynosure.core.errors import AuditFault, NotFound

KEY_VARIABLE = "CYNOSURE_AUDIT_KEY"
KEY_BYTES = 32


def read_key(environ: Mapping[str, str], path: Path) -> bytes:
    """Read the key: `$CYNOSURE_AUDIT_KEY`, else the file.

    Raises:
        NotFound: There is neither.
        AuditFault: It is no key, or others may read the file.
    """
    if environ.get(KEY_VARIABLE):
        return _parsed(environ[KEY_VARIABLE], f"${KEY_VARIABLE}")
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as fault:
        raise NotFound(
            f"no audit key: {path} does not exist and ${KEY_VARIABLE} is not set. Name the file, or set it."
        ) from fault
    except OSError as fault:
        raise AuditFault(
            f"audit key {path} cannot be opened: {fault.strerror}. Make it a plain file."
        ) from fault
    with open(opened, encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise AuditFault(
                f"audit key {path} has mode {mode:o}; others may read it. Run `chmod 600` on it, and if they "
                f"did, start a new log with a new key."
            )
        return _parsed(file.read(4096), str(path))


def read_or_create_key(environ: Mapping[str, str], path: Path) -> bytes:
    """Read the key; where there is none, make one that only its owner can read.

    Raises:
        AuditFault: It is no key, others may read it, or it cannot be written.
    """
    try:
        return read_key(environ, path)
    except NotFound:
        pass
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(made, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and never over a key that somebody else just made.
        os.link(scratch, path)
    except FileExistsError:
        pass
    except OSError as fault:
        raise AuditFault(
            f"audit key {path} cannot be written: {fault.strerror}. Name another place."
        ) from fault
    finally:
        scratch.unlink(missing_ok=True)
    return read_key(environ, path)


def _parsed(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise AuditFault(
            f"audit key in {where} is not usable; it takes {KEY_BYTES} bytes or more as hexadecimal digits. "
            f"Make one with `openssl rand -hex {KEY_BYTES}`."
        )
    return key
