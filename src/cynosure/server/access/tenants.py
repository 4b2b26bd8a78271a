"""Name a tenant by its key, so that the name tells nobody anything. Knows nothing of requests.

What a tenant may share with itself and with nobody else (pages of the prefix cache, for one) is kept under
this name. It goes by the key's name, so that it stays when the key is changed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cynosure.core.errors import EnvironmentFault

NUM_SECRET_BYTES = 32


def tenant_of(key_name: str, secret: bytes) -> str:
    """32 hexadecimal digits: an HMAC of the name, which nobody without the secret can make or undo."""
    return hmac.new(secret, b"cynosure tenant\0" + key_name.encode(), hashlib.sha256).hexdigest()[:32]


def end_user_of(name: str, tenant: str, secret: bytes) -> str:
    """What stands for a person whom a tenant names: the same each time, and another for another tenant."""
    named = f"cynosure end user\0{tenant}\0{name}"
    return hmac.new(secret, named.encode(), hashlib.sha256).hexdigest()[:32]


def read_secret(file: Path) -> bytes:
    """The secret in a file; where there is none, a new one is written there, for us alone to read.

    Raises:
        EnvironmentFault: the file can't be made or read, or holds something else.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            # Written aside and linked, so that of two servers that start at once both read the same.
            draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(NUM_SECRET_BYTES))
            try:
                os.link(draft, file)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        secret = file.read_bytes()
    except OSError as fault:
        raise EnvironmentFault(
            f"the secret that names tenants can't be kept in {file} ({fault.strerror}). Make its folder "
            "writable, or set CYNOSURE_HOME to another."
        ) from fault
    if len(secret) != NUM_SECRET_BYTES:
        raise EnvironmentFault(
            f"{file} has {len(secret)} bytes; the secret that names tenants has {NUM_SECRET_BYTES}. Remove "
            "the file; a new one is made."
        )
    return secret
